/** Studies as the pages read them. */
import { queryOptions } from "@tanstack/react-query";
import { all, get, seg, type Page } from "./client";
import type { components } from "./schema";

type Schemas = components["schemas"];
export type Study = Schemas["StudyOut"];
export type Trial = Schemas["TrialOut"];
export type Discovery = Schemas["DiscoveryOut"];
export type FoundParameter = Schemas["FoundParameterOut"];
export type Board = Schemas["BoardOut"];

export const studiesQuery = (project: string) =>
  queryOptions({ queryKey: ["studies", project], queryFn: async ({ signal }) => (await get<Page<Study>>(`/api/v1/projects/${seg(project)}/studies`, { limit: 200 }, signal)).items });

export const boardQuery = (project: string) => queryOptions({ queryKey: ["board", project], queryFn: ({ signal }) => get<Board>(`/api/v1/projects/${seg(project)}/studies/board`, {}, signal) });

const part = <T>(study: string, name: string) => queryOptions({ queryKey: ["study", study, name], queryFn: ({ signal }) => get<T>(`/api/v1/studies/${seg(study)}${name ? `/${name}` : ""}`, {}, signal) });

export const studyQuery = (id: string) => part<Study>(id, "");
export const historyQuery = (id: string) => part<Schemas["HistoryOut"]>(id, "history");
export const importanceQuery = (id: string) => part<Schemas["ImportanceOut"]>(id, "importance");
export const parallelQuery = (id: string) => part<Schemas["ParallelOut"]>(id, "parallel");
export const sliceQuery = (id: string) => part<Schemas["SliceOut"]>(id, "slice");
export const bestQuery = (id: string) => part<Schemas["BestOut"]>(id, "best");
export const trialsQuery = (id: string) => queryOptions({ queryKey: ["study", id, "trials"], queryFn: ({ signal }) => all<Trial>(`/api/v1/studies/${seg(id)}/trials`, { signal, most: 20_000 }) });

export const trialCount = (study: Study): number => Object.values(study.trials).reduce((sum, each) => sum + each, 0);
export const isSearching = (study: Study): boolean => ["running", "stopping", "pending", "queued"].includes(study.state);
