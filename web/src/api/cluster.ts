/** The shared cluster as the pages read it. */
import { queryOptions } from "@tanstack/react-query";
import { get, seg } from "./client";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Cluster = Schemas["ClusterOut"];
export type Why = Schemas["WhyOut"];
export type WhatIf = Schemas["WhatIfOut"];

export const clusterQuery = queryOptions({ queryKey: ["cluster"], refetchInterval: 3_000, queryFn: ({ signal }) => get<Cluster>("/api/v1/cluster", {}, signal) });
export const whyQuery = (workload: string) => queryOptions({ queryKey: ["workload", workload, "why"], refetchInterval: 3_000, queryFn: ({ signal }) => get<Why>(`/api/v1/workloads/${seg(workload)}/why`, {}, signal) });
