/** Series for a chart: all of the history, the part that is zoomed into, and what comes while one looks. */
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useCallback, useRef } from "react";
import { load, type Named } from "./load";
import { extended } from "./series";

const key = (metric: string, runs: readonly string[], range: readonly [number, number] | null) => ["series", metric, runs.join(","), range?.join(":") ?? ""];

export function useSeries(metric: string, runs: readonly string[], range: readonly [number, number] | null, enabled: boolean) {
  return useQuery({
    queryKey: key(metric, runs, range),
    queryFn: ({ signal }) => load(runs, [metric], { range, signal }),
    enabled,
    staleTime: Infinity, // extended by live points, never read again for its age
    gcTime: 60_000,
    placeholderData: (before) => before, // zooming keeps the picture until the finer one is there
  });
}

/** Once this share of a thinned series is live points, all of it is thinned anew. */
const GROWN = 1.3;

/** Extends the shown series of a run by what is new: `counts` says how many points each metric has by now. */
export function useExtend(run: string): (counts: Readonly<Record<string, number>>) => void {
  const client = useQueryClient();
  const busy = useRef(false);
  const waiting = useRef<Readonly<Record<string, number>> | null>(null);
  return useCallback(
    (counts) => {
      const step = async (now: Readonly<Record<string, number>>): Promise<void> => {
        const behind = new Map<string, number>();
        for (const query of client.getQueryCache().findAll({ queryKey: ["series"], type: "active" })) {
          const [, metric, runs, range] = query.queryKey as [string, string, string, string];
          const known = (query.state.data as Named[] | undefined)?.find((each) => each.run === run);
          const count = now[metric];
          if (range !== "" || !runs.split(",").includes(run) || count === undefined || !query.state.data) continue;
          if ((known?.count ?? 0) === count) continue;
          const points = known?.series.steps.length ?? 0;
          const shown = known?.series.thinned ? known.series.steps.length * GROWN : 3_000;
          if (points > shown || points > 4_000) void client.invalidateQueries({ queryKey: query.queryKey });
          else behind.set(metric, Math.min(behind.get(metric) ?? Infinity, known?.series.steps.at(-1) ?? -Infinity));
        }
        if (behind.size === 0) return;
        const from = Math.min(...behind.values());
        const news = await load([run], [...behind.keys()], { buckets: 100_000, ...(Number.isFinite(from) ? { from } : {}) });
        for (const { key: metric, series } of news)
          client.setQueriesData<Named[]>({ queryKey: ["series", metric], predicate: ({ queryKey }) => queryKey[3] === "" && String(queryKey[2]).split(",").includes(run) }, (shown) => {
            if (!shown) return shown;
            const count = now[metric] ?? 0;
            if (!shown.some((each) => each.run === run)) return [...shown, { run, key: metric, count, series }];
            return shown.map((each) => (each.run === run ? { ...each, count, series: extended(each.series, series) } : each));
          });
      };
      if (busy.current) {
        waiting.current = counts;
        return;
      }
      busy.current = true;
      void (async () => {
        try {
          for (let next: typeof waiting.current = counts; next; next = waiting.current) {
            waiting.current = null;
            await step(next);
            waiting.current ??= null;
            if (waiting.current === null) break;
          }
        } catch {
          // The next event, at most a second later, tries again from the same place.
        } finally {
          busy.current = false;
        }
      })();
    },
    [client, run],
  );
}
