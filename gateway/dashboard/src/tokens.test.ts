import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

const css = readFileSync(new URL("./tokens.css", import.meta.url), "utf8");

function tokens(selector: string): Record<string, string> {
  const block = css.slice(css.indexOf(`${selector} {`)).split("}")[0] ?? "";
  return Object.fromEntries([...block.matchAll(/--([\w-]+): (#[0-9a-f]{6})/g)].map((found) => [found[1], found[2]]));
}

function luminance(colour: string): number {
  const [r, g, b] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * (r ?? 0) + 0.7152 * (g ?? 0) + 0.0722 * (b ?? 0);
}

function contrast(a: string, b: string): number {
  const [high, low] = [luminance(a), luminance(b)].sort((m, n) => n - m);
  return ((high ?? 0) + 0.05) / ((low ?? 0) + 0.05);
}

const TEXTS = ["text", "quiet", "data", "critical", "major", "warning", "info", "good"];
const SEVERITIES = ["critical", "major", "warning", "info"];
const GROUNDS = ["ground", "panel", "raised"];

for (const selector of [":root", ':root[data-theme="light"]']) {
  test(`every text keeps AA on every ground in ${selector}`, () => {
    const colours = tokens(selector);
    for (const text of TEXTS) {
      for (const ground of GROUNDS) {
        const ratio = contrast(colours[text] ?? "", colours[ground] ?? "");
        expect(ratio, `${text} on ${ground}`).toBeGreaterThanOrEqual(4.5);
      }
    }
    for (const severity of SEVERITIES) {
      for (const text of ["text", severity]) {
        const ratio = contrast(colours[text] ?? "", colours[`${severity}-tint`] ?? "");
        expect(ratio, `${text} on ${severity}-tint`).toBeGreaterThanOrEqual(4.5);
      }
    }
    for (const land of ["ramp-0", "ramp-1", "ramp-2", "ramp-3"]) {
      expect(contrast(colours["text"] ?? "", colours[land] ?? ""), `text on ${land}`).toBeGreaterThanOrEqual(4.5);
    }
    expect(contrast(colours["comparison"] ?? "", colours["raised"] ?? "")).toBeGreaterThanOrEqual(2.8);
  });
}
