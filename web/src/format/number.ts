/** Numbers as a table shows them: enough digits to compare, no more. */

/** Up to `digits` significant digits; exponents only where they are shorter. */
export function value(number: number | null | undefined, digits = 5): string {
  if (number === null || number === undefined) return "–";
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "∞" : "−∞";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e9 || size < 1e-4) return number.toExponential(Math.max(0, digits - 2)).replace(/\.?0+e/, "e").replace("e+", "e");
  if (Number.isInteger(number)) return count(number);
  return String(Number(number.toPrecision(digits)));
}

/** A count with thin separators: 12,345. */
export const count = (number: number): string => number.toLocaleString("en-US");

export function bytes(size: number | null | undefined): string {
  if (size === null || size === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let [rest, unit] = [size, 0];
  while (rest >= 1024 && unit < units.length - 1) [rest, unit] = [rest / 1024, unit + 1];
  return `${unit === 0 || rest >= 100 ? Math.round(rest) : rest.toFixed(1).replace(/\.0$/, "")} ${units[unit] ?? ""}`;
}

export const percent = (share: number | null | undefined, digits = 0): string =>
  share === null || share === undefined || !Number.isFinite(share) ? "–" : `${(share * 100).toFixed(digits)}%`;

export const plural = (number: number, noun: string, many = `${noun}s`): string => `${count(number)} ${number === 1 ? noun : many}`;
