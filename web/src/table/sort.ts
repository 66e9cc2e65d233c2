/** Sorting as the address says it: `loss` upwards, `-loss` downwards. */
import type { Cell } from "./filter";

export interface Sort {
  key: string;
  descending: boolean;
}

export function parseSort(text: string | undefined): Sort | null {
  if (!text) return null;
  return text.startsWith("-") ? { key: text.slice(1), descending: true } : { key: text, descending: false };
}

/** What a click on a column's head makes of the sort: one way, the other way, none. Numbers begin with the greatest. */
export function nextSort(text: string | undefined, key: string, numeric: boolean): string | undefined {
  const [first, second] = numeric ? [`-${key}`, key] : [key, `-${key}`];
  if (text === first) return second;
  return text === second ? undefined : first;
}

/** Order of two cells; what has no value comes last, whichever way. */
export function compareCells(a: Cell, b: Cell, descending: boolean): number {
  const [none, other] = [missing(a), missing(b)];
  if (none || other) return Number(none) - Number(other);
  const order = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  return descending ? -order : order;
}

const missing = (cell: Cell): boolean => cell === null || cell === undefined || cell === "" || (typeof cell === "number" && Number.isNaN(cell));
