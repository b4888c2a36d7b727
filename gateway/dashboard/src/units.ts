// Units as an operator writes them. The gateway names them by UCUM (`Cel`, `m3/h`, `%{LEL}`), which no screen shows.

const WRITTEN: Record<string, string> = {
  "1": "", "{count}": "", "%{LEL}": "%LEL", "%[LEL]": "%LEL", Cel: "°C", K: "K", deg: "°", "[ppm]": "ppm", "[pH]": "pH",
  "[NTU]": "NTU", "{NTU}": "NTU", "m3/h": "m³/h", m3: "m³", "uS/cm": "µS/cm", "mm/h": "mm/h",
};

export const unit = (name: string): string => WRITTEN[name] ?? name;

/** A figure and its unit; a percent sign stands off as any unit does. */
export const withUnit = (text: string, name: string): string => `${text} ${unit(name)}`.trimEnd();
