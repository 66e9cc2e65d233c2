/** Who is signed in, and the projects they see. */
import { useQuery, type QueryClient } from "@tanstack/react-query";
import { all, get, post, remove, setCsrf } from "./client";
import type { Me, Project } from "./types";

export const meQuery = {
  queryKey: ["me"],
  queryFn: async ({ signal }: { signal: AbortSignal }) => {
    const me = await get<Me>("/api/v1/me", {}, signal);
    setCsrf(me.csrf ?? "");
    return me;
  },
  staleTime: Infinity,
  retry: false,
};

export const useMe = () => useQuery(meQuery).data;

export const projectsQuery = {
  queryKey: ["projects"],
  queryFn: ({ signal }: { signal: AbortSignal }) => all<Project>("/api/v1/projects", { signal }),
  staleTime: 30_000,
};

export const useProjects = () => useQuery(projectsQuery).data;

export async function signIn(client: QueryClient, body: { user?: string; password?: string; code?: string }): Promise<void> {
  const me = await post<Me>("/api/v1/session", body);
  setCsrf(me.csrf ?? "");
  client.clear();
  client.setQueryData(meQuery.queryKey, me);
}

export async function signOut(client: QueryClient): Promise<void> {
  await remove("/api/v1/session");
  setCsrf("");
  client.clear();
}
