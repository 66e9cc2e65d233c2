/** The shared cluster as the pages read it. */
import { queryOptions } from "@tanstack/react-query";
import { all, get, seg } from "./client";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Cluster = Schemas["ClusterOut"];
export type Why = Schemas["WhyOut"];
export type Quota = Schemas["QuotaOut"];
export type WhatIf = Schemas["WhatIfOut"];

export const clusterQuery = queryOptions({ queryKey: ["cluster"], refetchInterval: 3_000, queryFn: ({ signal }) => get<Cluster>("/api/v1/cluster", {}, signal) });
export const quotasQuery = queryOptions({ queryKey: ["quotas"], queryFn: ({ signal }) => all<Quota>("/api/v1/quotas", { query: { limit: undefined }, signal }) });
export const whyQuery = (workload: string) => queryOptions({ queryKey: ["workload", workload, "why"], refetchInterval: 3_000, queryFn: ({ signal }) => get<Why>(`/api/v1/workloads/${seg(workload)}/why`, {}, signal) });
