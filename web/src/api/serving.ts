/** Models and endpoints as the pages read them. */
import { queryOptions } from "@tanstack/react-query";
import { all, get, seg } from "./client";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Model = Schemas["ModelOut"];
export type ModelDetail = Schemas["ModelDetail"];
export type ModelVersion = ModelDetail["versions"][number];
export type Endpoint = Schemas["EndpointOut"];
export type EndpointDetail = Schemas["EndpointDetail"];

/** What a version comes from. */
export interface ModelLineage {
  source?: string;
  run?: string | null;
  run_name?: string;
  code?: Record<string, string>;
  snapshot?: string | null;
  workload?: string | null;
  parameters?: Record<string, string>;
  data?: string[];
}

export interface Traffic {
  bounds_milliseconds: number[];
  requests: number;
  errors: number;
  histogram: number[];
  percentiles: { p50: number | null; p95: number | null; p99: number | null };
  error_budget: { objective: number; used: number };
  minutes: { minute: string; revision: string; requests: number; errors: number; rejected: number; histogram: number[] }[];
}

export interface Drift {
  hours: number;
  revisions: {
    revision: number; model: string; version: number; rows: number;
    baseline: string; note: string;  // what the features are compared with; why they are not
    features: { name: string; rows: number; drifted: boolean; psi: number | null; ks: number | null; missing: number | null; expected_missing: number | null; out_of_range: number | null; mean: number | null }[];
    outputs: Record<string, unknown>;
  }[];
}

/** What is known of one prediction. status: of one that was refused or failed, which has no record. */
export interface Trace {
  id: string;
  at: string;
  endpoint: string;
  project: string;
  revision: number | null;
  rows: number | null;
  milliseconds: number | null;
  status?: number;
  payload: boolean;
  lineage: ModelLineage & { model?: string; version?: number };
}

/** What was asked and answered, as far as it is kept: base64. */
export interface Payload {
  status: number;
  request: string; request_bytes: number; request_type: string;
  response: string; response_bytes: number; response_type: string;
}

export interface Prediction { id: string; at: string | null; revision: number; rows: number; milliseconds: number; input_mean: number | null; output_mean: number | null }

export const modelsPath = (project: string) => `/api/v1/projects/${seg(project)}/models`;
export const modelsQuery = (project: string) => queryOptions({ queryKey: ["models", project], queryFn: ({ signal }) => all<Model>(modelsPath(project), { signal }) });
export const modelQuery = (project: string, name: string) =>
  queryOptions({
    queryKey: ["model", project, name],
    queryFn: ({ signal }) => get<ModelDetail>(`${modelsPath(project)}/${seg(name)}`, {}, signal),
  });
export const lineageQuery = (project: string, name: string, version: number) =>
  queryOptions({ queryKey: ["model", project, name, version, "lineage"], queryFn: ({ signal }) => get<ModelLineage>(`${modelsPath(project)}/${seg(name)}/versions/${version}/lineage`, {}, signal) });

export const endpointsQuery = (project: string) =>
  queryOptions({ queryKey: ["endpoints", project], queryFn: ({ signal }) => all<Endpoint>(`/api/v1/projects/${seg(project)}/endpoints`, { query: { limit: undefined }, signal }) });
export const endpointQuery = (name: string) =>
  queryOptions({ queryKey: ["endpoint", name], queryFn: ({ signal }) => get<EndpointDetail>(`/api/v1/endpoints/${seg(name)}`, {}, signal) });
/** What its models take. Asked once for its active revisions, and only of one that is awake: to ask is a request as any other, so it
 * must neither wake what sleeps nor be repeated with each event, of which it is one. */
export const schemaQuery = ({ name, ready, revisions }: EndpointDetail) =>
  queryOptions({
    queryKey: ["schema", name, ...revisions.filter((revision) => revision.role === "active").map((revision) => revision.id)],
    enabled: ready > 0,
    staleTime: Infinity,
    retry: false,
    queryFn: ({ signal }) => get<unknown>(`/api/v1/endpoints/${seg(name)}/schema`, {}, signal),
  });
export const trafficQuery = (name: string, minutes: number) =>
  queryOptions({ queryKey: ["endpoint", name, "traffic", minutes], queryFn: ({ signal }) => get<Traffic>(`/api/v1/endpoints/${seg(name)}/traffic`, { minutes }, signal) });
export const driftQuery = (name: string) => queryOptions({ queryKey: ["endpoint", name, "drift"], queryFn: ({ signal }) => get<Drift>(`/api/v1/endpoints/${seg(name)}/drift`, {}, signal) });
export const predictionsQuery = (name: string) =>
  queryOptions({ queryKey: ["endpoint", name, "predictions"], queryFn: ({ signal }) => get<{ items: Prediction[] }>(`/api/v1/endpoints/${seg(name)}/predictions`, { limit: 100 }, signal) });
const ARRIVES_MS = 10_000;

/** A prediction's record, from its replica, and its payload, from the gateway, come within seconds of its answer, in either order. */
export const traceQuery = (prediction: string) =>
  queryOptions({
    queryKey: ["prediction", prediction], retry: 4, retryDelay: 1_500,
    queryFn: ({ signal }) => get<Trace>(`/api/v1/predictions/${seg(prediction)}`, {}, signal),
    refetchInterval: ({ state: { data } }) => (data && !(data.payload && data.rows !== null) && Date.now() - Date.parse(data.at) < ARRIVES_MS ? 1_500 : false),
  });
