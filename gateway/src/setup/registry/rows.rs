//! Rows of a CSV file, each with its line.
//!
//! Quotes have no meaning: one that is never closed would join all lines behind it to one row. Empty lines are skipped.

use csv::{ReaderBuilder, StringRecord, Terminator, Trim};

/// The rows of a text, each with its line, counted from 1.
pub(super) fn rows(text: &str) -> impl Iterator<Item = (usize, StringRecord)> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .quoting(false)
        // A lone carriage return ends no line; trimming takes one from a line's end.
        .terminator(Terminator::Any(b'\n'))
        .trim(Trim::All)
        .from_reader(text.as_bytes());
    std::iter::from_fn(move || {
        let mut row = StringRecord::new();
        // A text in memory is always read, and it is UTF-8.
        while reader.read_record(&mut row).unwrap_or(false) {
            if row.len() == 1 && row[0].is_empty() {
                continue;
            }
            let behind = reader.position();
            let is_ended = text[..usize::try_from(behind.byte()).unwrap_or(0)].ends_with('\n');
            let line = usize::try_from(behind.line()).unwrap_or(usize::MAX) - usize::from(is_ended);
            return Some((line, row));
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_its_line_whatever_ends_lines_and_whatever_is_quoted() {
        for end in ["\n", "\r\n"] {
            let text = ["a, b", "", "\"c,d", "e\",f\rg", "", "", " h "].join(end);
            for text in [text.clone(), text + end] {
                let rows: Vec<_> =
                    rows(&text).map(|(line, row)| (line, row.iter().collect::<Vec<_>>().join("|"))).collect();
                let expected = [(1, "a|b"), (3, "\"c|d"), (4, "e\"|f\rg"), (7, "h")];
                assert_eq!(rows, expected.map(|(line, row)| (line, row.to_owned())), "{text:?}");
            }
        }
        assert_eq!(rows("").count(), 0);
    }
}
