/** Workloads as the pages read them. */
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";
import { all, get, post, seg, type Page } from "./client";
import type { Workload, WorkloadDetail } from "./types";

export const workloadsQuery = (project: string) =>
  queryOptions({ queryKey: ["workloads", project], queryFn: ({ signal }) => all<Workload>(`/api/v1/projects/${seg(project)}/workloads`, { signal, most: 5_000 }) });

export const recentQuery = (project: string, limit = 8) =>
  queryOptions({ queryKey: ["workloads", project, "recent", limit], queryFn: ({ signal }) => get<Page<Workload>>(`/api/v1/projects/${seg(project)}/workloads`, { limit }, signal) });

export const openQuery = (project: string) =>
  queryOptions({
    queryKey: ["workloads", project, "open"],
    queryFn: ({ signal }) => get<Page<Workload>>(`/api/v1/projects/${seg(project)}/workloads`, { limit: 500, state: ["queued", "admitted", "starting", "running", "preempting"] }, signal),
  });

export const workloadQuery = (id: string) => queryOptions({ queryKey: ["workload", id], queryFn: ({ signal }) => get<WorkloadDetail>(`/api/v1/workloads/${seg(id)}`, {}, signal) });

export const isOver = (workload: { state: string }): boolean => ["succeeded", "failed", "cancelled"].includes(workload.state);

export function useCancel() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (id: string) => post<Workload>(`/api/v1/workloads/${seg(id)}/cancel`),
    onSuccess: (workload) => {
      void client.invalidateQueries({ queryKey: ["workload", workload.id] });
      void client.invalidateQueries({ queryKey: ["workloads", workload.project] });
    },
  });
}
