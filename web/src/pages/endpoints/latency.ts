/** Latency out of histograms. Pure. */
import type { Traffic } from "~/api/serving";

/** The latency below which `share` of the requests stay, between the bounds of its bucket; null without requests. */
export function percentile(histogram: readonly number[], bounds: readonly number[], share: number): number | null {
  const total = histogram.reduce((sum, each) => sum + each, 0);
  if (total === 0) return null;
  const wanted = share * total;
  let seen = 0;
  for (const [i, each] of histogram.entries()) {
    if (seen + each >= wanted && each > 0) {
      const low = i === 0 ? 0 : (bounds[i - 1] ?? 0);
      const high = bounds[i] ?? low;
      return low + ((wanted - seen) / each) * (high - low);
    }
    seen += each;
  }
  return bounds.at(-1) ?? null;
}

export interface Minute {
  time: number; // seconds
  requests: number;
  errors: number;
  histogram: number[];
}

/** One row a minute over all revisions, with zeros between so that a quiet minute is no straight line. */
export function perMinute(traffic: Traffic): Minute[] {
  const rows = new Map<number, Minute>();
  for (const minute of traffic.minutes) {
    const time = Math.floor(Date.parse(minute.minute) / 60_000) * 60;
    const row = rows.get(time) ?? { time, requests: 0, errors: 0, histogram: minute.histogram.map(() => 0) };
    row.requests += minute.requests;
    row.errors += minute.errors;
    row.histogram = row.histogram.map((each, i) => each + (minute.histogram[i] ?? 0));
    rows.set(time, row);
  }
  const times = [...rows.keys()].sort((a, b) => a - b);
  const [first, last] = [times[0], times.at(-1)];
  if (first === undefined || last === undefined) return [];
  return Array.from({ length: (last - first) / 60 + 1 }, (_, i) => rows.get(first + i * 60) ?? { time: first + i * 60, requests: 0, errors: 0, histogram: [] });
}
