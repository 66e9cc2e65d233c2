/** Every address of the console. Each page is a bundle of its own, loaded when its link is about to be followed. */
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, redirect } from "@tanstack/react-router";
import { get, Problem, seg, whenSignedOut } from "./api/client";
import { client } from "./api/query";
import { meQuery } from "./api/session";
import { Shell } from "./shell/Shell";
import { NotFound } from "./shell/NotFound";
import { Broken } from "./shell/Panel";

/** Search parameters as plain text: what is in the address bar is what was typed. */
export type Search = Record<string, string | undefined>;
const search = (raw: Record<string, unknown>): Search =>
  Object.fromEntries(Object.entries(raw).filter(([, value]) => value !== undefined && value !== "").map(([key, value]) => [key, String(value)]));

const root = createRootRoute({ notFoundComponent: NotFound, errorComponent: Broken });

const login = createRoute({ getParentRoute: () => root, path: "/login", validateSearch: search, component: lazyRouteComponent(() => import("./pages/login/Login"), "Login") });

const inside = createRoute({
  getParentRoute: () => root,
  id: "inside",
  component: Shell,
  beforeLoad: async ({ location }) => {
    try {
      await client.ensureQueryData(meQuery);
    } catch (error) {
      if (error instanceof Problem && error.status === 401) throw redirect({ to: "/login", search: { next: location.href } });
      throw error;
    }
  },
});

const page = <P extends string>(path: P, load: () => Promise<Record<string, unknown>>, name: string) =>
  createRoute({
    getParentRoute: () => inside,
    path,
    validateSearch: search,
    // eslint-disable-next-line @typescript-eslint/no-explicit-any -- a page's module is named by text here
    component: lazyRouteComponent(load as any, name as never),
  });

/** MLflow's client prints links of the form TRACKING_URI/#/experiments/0/runs/ID: they lead to the run's page here. */
const home = createRoute({
  getParentRoute: () => root,
  path: "/",
  beforeLoad: async ({ location }) => {
    const run = /^\/?experiments\/\d+\/runs\/([0-9a-f]{32})/.exec(location.hash)?.[1];
    if (run === undefined) throw redirect({ to: "/home" });
    try {
      const { project } = await get<{ project: string }>(`/api/v1/runs/${run}`);
      throw redirect({ href: `/p/${seg(project)}/runs/${run}` });
    } catch (error) {
      if (error instanceof Problem && error.status === 401) throw redirect({ to: "/login", search: { next: location.href } });
      throw error;
    }
  },
});

const tree = root.addChildren([
  home,
  login,
  inside.addChildren([
    page("/home", () => import("./pages/home/Home"), "Home"),
    page("/p/$project", () => import("./pages/dashboard/Dashboard"), "Dashboard"),
    page("/p/$project/workloads", () => import("./pages/workloads/Workloads"), "Workloads"),
    page("/p/$project/workloads/$id", () => import("./pages/workloads/Workload"), "WorkloadPage"),
    page("/p/$project/new", () => import("./pages/new-run/NewRun"), "NewRun"),
    page("/p/$project/runs", () => import("./pages/runs/Runs"), "Runs"),
    page("/p/$project/runs/$id", () => import("./pages/runs/Run"), "RunPage"),
    page("/p/$project/compare", () => import("./pages/runs/Compare"), "Compare"),
    page("/p/$project/tuning", () => import("./pages/tuning/Tuning"), "Tuning"),
    page("/p/$project/tuning/new", () => import("./pages/tuning/NewStudy"), "NewStudy"),
    page("/p/$project/tuning/$id", () => import("./pages/tuning/Study"), "StudyPage"),
    page("/p/$project/models", () => import("./pages/models/Models"), "Models"),
    page("/p/$project/models/$name", () => import("./pages/models/Model"), "ModelPage"),
    page("/p/$project/models/$name/$version", () => import("./pages/models/Model"), "ModelPage"),
    page("/p/$project/endpoints", () => import("./pages/endpoints/Endpoints"), "Endpoints"),
    page("/p/$project/endpoints/$name", () => import("./pages/endpoints/Endpoint"), "EndpointPage"),
    page("/p/$project/data", () => import("./pages/data/Data"), "Data"),
    page("/p/$project/data/$name", () => import("./pages/data/Dataset"), "DatasetPage"),
    page("/p/$project/data/$name/$version", () => import("./pages/data/Dataset"), "DatasetPage"),
    page("/p/$project/settings", () => import("./pages/settings/Settings"), "Settings"),
    page("/cluster", () => import("./pages/cluster/Cluster"), "Cluster"),
    page("/admin/$section", () => import("./pages/admin/Admin"), "Admin"),
    createRoute({ getParentRoute: () => inside, path: "$", component: NotFound }),
  ]),
]);

export const router = createRouter({
  routeTree: tree,
  defaultPreload: "intent",
  defaultPreloadDelay: 30,
  defaultPendingMs: 300,
  scrollRestoration: true,
  defaultNotFoundComponent: NotFound,
  defaultErrorComponent: Broken,
  parseSearch: (text) => Object.fromEntries(new URLSearchParams(text)),
  stringifySearch: (values) => {
    const params = new URLSearchParams();
    for (const [key, value] of Object.entries(values as Record<string, unknown>)) if (value !== undefined && value !== null && value !== "") params.set(key, String(value));
    const text = params.toString();
    return text ? `?${text}` : "";
  },
});

// A session that has ended: sign in, and come back to where one was.
whenSignedOut(() => {
  const { pathname, href } = router.state.location;
  if (pathname === "/login" || client.getQueryData(meQuery.queryKey) === undefined) return; // nobody was signed in
  client.removeQueries({ queryKey: meQuery.queryKey });
  void router.navigate({ to: "/login", search: { next: href, ended: "1" } as never });
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
