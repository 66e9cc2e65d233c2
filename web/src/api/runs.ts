/** Runs, their metrics and artifacts as the pages read them. */
import { queryOptions, useMutation, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { all, get, patch, remove, seg, type Page } from "./client";
import type { Artifact, Comparison, Metric, Run, RunDetail } from "./types";

const MOST = 20_000;

/** Every run of a project. What has come is shown at once, while the rest is still read. */
export const runsQuery = (client: QueryClient, project: string) =>
  queryOptions({
    queryKey: ["runs", project],
    staleTime: Infinity, // kept up to date by `refreshRuns`
    queryFn: async ({ signal }) => {
      const path = `/api/v1/projects/${seg(project)}/runs`;
      const first = await get<Page<Run>>(path, { limit: 200 }, signal);
      if (first.next === null) return first.items;
      client.setQueryData(["runs", project], first.items);
      const rest = await all<Run>(path, { query: { cursor: first.next, limit: 2000 }, most: MOST, signal }).catch(() => all<Run>(path, { query: { limit: 2000 }, most: MOST, signal }));
      return merged(first.items, rest);
    },
  });

/** The newest runs again, put in place of what was known of them. */
export async function refreshRuns(client: QueryClient, project: string): Promise<void> {
  const known = client.getQueryData<Run[]>(["runs", project]);
  if (!known) return;
  const page = await get<Page<Run>>(`/api/v1/projects/${seg(project)}/runs`, { limit: 100 });
  client.setQueryData<Run[]>(["runs", project], (now) => merged(page.items, now ?? []));
}

export function merged(newer: readonly Run[], older: readonly Run[]): Run[] {
  const seen = new Set(newer.map((run) => run.id));
  return [...newer, ...older.filter((run) => !seen.has(run.id))];
}

export const runQuery = (id: string) => queryOptions({ queryKey: ["run", id], queryFn: ({ signal }) => get<RunDetail>(`/api/v1/runs/${seg(id)}`, {}, signal) });

export const metricsQuery = (id: string) =>
  queryOptions({ queryKey: ["metrics", id], queryFn: async ({ signal }) => (await get<Page<Metric>>(`/api/v1/runs/${seg(id)}/metrics`, {}, signal)).items });

export const artifactsQuery = (id: string, path: string) =>
  queryOptions({ queryKey: ["artifacts", id, path], queryFn: async ({ signal }) => (await get<Page<Artifact>>(`/api/v1/runs/${seg(id)}/artifacts`, { path }, signal)).items });

export const compareQuery = (ids: readonly string[]) =>
  queryOptions({ queryKey: ["compare", ...ids], enabled: ids.length > 1, queryFn: ({ signal }) => get<Comparison>("/api/v1/compare", { run: ids }, signal) });

export const artifactUrl = (run: string, path: string): string => `/api/v1/runs/${seg(run)}/artifacts/${path.split("/").map(seg).join("/")}`;

export function useChangeRun(id: string) {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: { name?: string; tags?: Record<string, string> }) => patch<RunDetail>(`/api/v1/runs/${seg(id)}`, body),
    onSuccess: (run) => {
      client.setQueryData(["run", id], run);
      void refreshRuns(client, run.project);
    },
  });
}

export const deleteRun = (id: string): Promise<void> => remove(`/api/v1/runs/${seg(id)}`);

/** The words of the API for a run's state, as the rest of the console says them. */
export const runState = (status: string): string => ({ FINISHED: "succeeded", KILLED: "cancelled", SCHEDULED: "queued" })[status] ?? status.toLowerCase();

/** Metrics that are no finite number travel as words. */
export const number = (value: number | string | null | undefined): number | null =>
  value === null || value === undefined ? null : typeof value === "number" ? value : value === "Infinity" ? Infinity : value === "-Infinity" ? -Infinity : NaN;
