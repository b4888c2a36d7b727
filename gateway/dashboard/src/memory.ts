// What a browser keeps of an operator's choices: language, theme, metric.

export function remember(key: string, value: string): void {
  try {
    localStorage.setItem(`hunhe.${key}`, value);
  } catch {
    // A browser that keeps nothing still shows everything.
  }
}

export function remembered(key: string): string | null {
  try {
    return localStorage.getItem(`hunhe.${key}`);
  } catch {
    return null;
  }
}
