/** JSON over several lines, with each list of numbers on one; anything else as it is. */
export function pretty(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 1).replace(/\[\s+((?:-?[\d.e+-]+,?\s+)+)\]/g, (_, inner: string) => `[${inner.trim().replace(/\s+/g, " ")}]`);
  } catch {
    return text;
  }
}

/** JSON on one line, for a shell; anything else as it is. */
export function compact(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text));
  } catch {
    return text;
  }
}
