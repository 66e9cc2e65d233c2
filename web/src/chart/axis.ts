/** An axis for numbers or words: where a value stands on it, and what is written beside it. Pure. */
import { count, value as text } from "~/format/number";

type Value = number | string | boolean | null | undefined;

export interface Axis {
  words: string[] | null;
  low: number;
  high: number;
  log: boolean;
  ticks: { at: number; text: string }[];
}

/** How far ticks may stand apart on an axis that counts: never between two whole numbers. */
export const WHOLE: number[] = Array.from({ length: 16 }, (_, power) => [1, 2, 5].map((each) => each * 10 ** power)).flat();

/** A whole number beside its tick: shortened where nothing is lost, so that no two ticks say the same. */
export function whole(number: number): string {
  const size = Math.abs(number);
  if (size >= 1e6 && number % 1e4 === 0) return `${number / 1e6}M`;
  return size >= 1e4 && number % 100 === 0 ? `${number / 1e3}k` : count(number);
}

export function axisOf(values: readonly Value[], log = false): Axis {
  const there = values.filter((each) => each !== null && each !== undefined);
  const numeric = there.every((each) => typeof each === "number" || (typeof each === "string" && each !== "" && Number.isFinite(Number(each))));
  if (!numeric) {
    const words = [...new Set(there.map(String))].sort((a, b) => a.localeCompare(b, undefined, { numeric: true }));
    const ticks = words.slice(0, 14).map((word, i) => ({ at: words.length > 1 ? i / (words.length - 1) : 0.5, text: word.length > 14 ? `${word.slice(0, 13)}…` : word }));
    return { words, low: 0, high: 1, log: false, ticks };
  }
  const numbers = there.map(Number).filter((each) => Number.isFinite(each) && (!log || each > 0));
  const low = numbers.length ? Math.min(...numbers) : 0;
  const high = numbers.length ? Math.max(...numbers) : 1;
  const axis: Axis = { words: null, low, high, log, ticks: [] };
  const inner = low === high ? [low] : [0, 0.25, 0.5, 0.75, 1].map((share) => (log ? low * (high / low) ** share : low + share * (high - low)));
  const shown = numbers.every(Number.isInteger) ? [...new Set(inner.map(Math.round))] : inner;
  axis.ticks = shown.map((each) => ({ at: position(axis, each) ?? 0.5, text: text(each, 3) }));
  return axis;
}

/** From 0 to 1 along the axis; null for what does not stand on it. */
export function position(axis: Axis | undefined, value: Value): number | null {
  if (!axis || value === null || value === undefined) return null;
  if (axis.words) {
    const at = axis.words.indexOf(String(value));
    return at < 0 ? null : axis.words.length > 1 ? at / (axis.words.length - 1) : 0.5;
  }
  const number = Number(value);
  if (!Number.isFinite(number) || (axis.log && number <= 0)) return null;
  if (axis.low === axis.high) return 0.5;
  return axis.log ? Math.log(number / axis.low) / Math.log(axis.high / axis.low) : (number - axis.low) / (axis.high - axis.low);
}

/** A colour for how good something is, 0 to 1: from quiet to the accent, told apart by lightness too. */
export function shade(share: number | null, scheme: "light" | "dark"): string {
  if (share === null) return scheme === "dark" ? "#4a4a55" : "#c9c9d2";
  const stops = scheme === "dark" ? [[62, 66, 92], [110, 108, 220], [255, 186, 61]] : [[196, 200, 222], [91, 91, 214], [190, 84, 0]];
  const at = Math.min(1, Math.max(0, share)) * 2;
  const i = Math.min(1, Math.floor(at));
  const mix = [0, 1, 2].map((channel) => Math.round((stops[i]?.[channel] ?? 0) + ((stops[i + 1]?.[channel] ?? 0) - (stops[i]?.[channel] ?? 0)) * (at - i)));
  return `rgb(${mix.join(" ")})`;
}
