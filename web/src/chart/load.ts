/** Series from the API's binary body: a line of JSON, then float64 arrays in the order in which the line names them. */
import { send } from "~/api/client";
import { empty, type Series } from "./series";

interface Row {
  run: string;
  key: string;
  count: number;
  points: number;
  raw: boolean;
  offset: number;
}

export interface Named {
  run: string;
  key: string;
  /** Points that the series stands for. */
  count: number;
  series: Series;
}

export function decode(body: ArrayBuffer): Named[] {
  const bytes = new Uint8Array(body);
  const end = bytes.indexOf(10);
  if (end < 0) throw new Error("the series has no head");
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as { series: Row[] };
  return head.series.map(({ run, key, count, points, raw, offset }) => {
    const column = (i: number): Float64Array => {
      const start = end + 1 + offset + i * points * 8;
      return start % 8 === 0 ? new Float64Array(body, start, points) : new Float64Array(body.slice(start, start + points * 8));
    };
    const min = column(2);
    return { run, key, count, series: { steps: column(0), times: column(1), min, max: raw ? min : column(3), thinned: !raw } };
  });
}

/** The series of some runs and keys. Several of one request at a time: a browser has few connections. */
export async function load(
  runs: readonly string[], keys: readonly string[], { buckets = 1500, range, from, signal }: { buckets?: number; range?: readonly [number, number] | null; from?: number; signal?: AbortSignal } = {},
): Promise<Named[]> {
  if (runs.length === 0 || keys.length === 0) return [];
  const response = await send("GET", "/api/v1/metrics/series", {
    query: { run: runs, key: keys, buckets, from_step: range ? Math.floor(range[0]) : from, to_step: range ? Math.ceil(range[1]) : undefined },
    headers: { Accept: "application/vnd.narf.series" },
    ...(signal ? { signal } : {}),
  });
  return decode(await response.arrayBuffer());
}

export const find = (named: readonly Named[] | undefined, run: string, key: string): Series => named?.find((each) => each.run === run && each.key === key)?.series ?? empty;
