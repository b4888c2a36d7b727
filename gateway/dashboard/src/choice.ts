// Which row of a list the keyboard stands on. The place is a key, not a number: it stays while the list changes.

/** The key `by` rows away from `chosen`; the first or last when there is none to start from. */
export function move(keys: string[], chosen: string | undefined, by: number): string | undefined {
  if (keys.length === 0) return undefined;
  const at = chosen === undefined ? -1 : keys.indexOf(chosen);
  if (at < 0) return by > 0 ? keys[0] : keys.at(-1);
  return keys[Math.max(0, Math.min(keys.length - 1, at + by))];
}
