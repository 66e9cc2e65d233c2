/** Datasets, versions and sources as the pages read them. */
import { queryOptions } from "@tanstack/react-query";
import { all, get, seg } from "./client";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Dataset = Schemas["DatasetOut"];
export type VersionRow = Schemas["VersionRow"];
export type Preview = Schemas["PreviewOut"];
export type Difference = Schemas["DiffOut"];
export type Graph = Schemas["LineageOut"];
export type Source = Schemas["SourceOut"];

export interface ColumnStatistics {
  kind?: string;
  count?: number;
  nulls?: number;
  min?: number | string | null;
  max?: number | string | null;
  mean?: number | null;
  std?: number | null;
  distinct?: number | null;
  top?: [unknown, number][];
  histogram?: { edges: number[]; counts: number[] } | null;
}

export interface DataVersion {
  id: string; dataset: string; version: string; number: number; kind: string; format: string; files: number; rows: number | null; size_bytes: number;
  columns: { name: string; type: string; nullable: boolean }[];
  statistics: { columns?: Record<string, ColumnStatistics>; files?: { suffix: string; count: number; size_bytes: number }[] };
  provenance: Record<string, unknown>; checks: Record<string, unknown>[]; tags: string[]; created_by: string; created_at: string;
}

const base = (project: string) => `/api/v1/projects/${seg(project)}/datasets`;
export const datasetsQuery = (project: string) => queryOptions({ queryKey: ["datasets", project], queryFn: ({ signal }) => all<Dataset>(base(project), { signal }) });
export const datasetQuery = (project: string, name: string) => queryOptions({ queryKey: ["dataset", project, name], queryFn: ({ signal }) => get<Dataset>(`${base(project)}/${seg(name)}`, {}, signal) });
export const versionsQuery = (project: string, name: string) => queryOptions({ queryKey: ["dataset", project, name, "versions"], queryFn: ({ signal }) => all<VersionRow>(`${base(project)}/${seg(name)}/versions`, { signal }) });
export const versionQuery = (project: string, name: string, version: string) => queryOptions({ queryKey: ["dataset", project, name, version], staleTime: Infinity, queryFn: ({ signal }) => get<DataVersion>(`${base(project)}/${seg(name)}/versions/${seg(version)}`, {}, signal) });
export const previewQuery = (project: string, name: string, version: string) => queryOptions({ queryKey: ["dataset", project, name, version, "preview"], staleTime: Infinity, queryFn: ({ signal }) => get<Preview>(`${base(project)}/${seg(name)}/versions/${seg(version)}/preview`, { limit: 200 }, signal) });
export const differenceQuery = (project: string, name: string, before: string, after: string) => queryOptions({ queryKey: ["dataset", project, name, "diff", before, after], queryFn: ({ signal }) => get<Difference>(`${base(project)}/${seg(name)}/diff`, { before, after }, signal) });
export const graphQuery = (project: string, id: string) => queryOptions({ queryKey: ["lineage", project, id], queryFn: ({ signal }) => get<Graph>(`/api/v1/projects/${seg(project)}/lineage`, { kind: "dataset_version", id }, signal) });
export const sourcesQuery = (project: string) => queryOptions({ queryKey: ["sources", project], queryFn: ({ signal }) => all<Source>(`/api/v1/projects/${seg(project)}/sources`, { query: { limit: undefined }, signal }) });
