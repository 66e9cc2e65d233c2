/** Runs in groups: how many, and what a metric comes to in each. Pure. */
import type { Cell } from "~/table/filter";

export interface Group {
  value: string;
  count: number;
  means: Record<string, number | null>;
  bests: Record<string, { min: number; max: number } | null>;
}

export function grouped<T>(rows: readonly T[], by: (row: T) => Cell, metrics: readonly string[], metric: (row: T, name: string) => number | null): Group[] {
  const groups = new Map<string, T[]>();
  for (const row of rows) {
    const value = String(by(row) ?? "none");
    const members = groups.get(value);
    if (members) members.push(row);
    else groups.set(value, [row]);
  }
  return [...groups].map(([value, members]) => {
    const means: Group["means"] = {};
    const bests: Group["bests"] = {};
    for (const name of metrics) {
      const numbers = members.map((row) => metric(row, name)).filter((each): each is number => each !== null && Number.isFinite(each));
      means[name] = numbers.length ? numbers.reduce((sum, each) => sum + each, 0) / numbers.length : null;
      bests[name] = numbers.length ? { min: Math.min(...numbers), max: Math.max(...numbers) } : null;
    }
    return { value, count: members.length, means, bests };
  });
}
