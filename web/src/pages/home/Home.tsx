/** My projects, what runs in them, and what needs somebody. */
import { useQueries, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { projectsQuery, useMe } from "~/api/session";
import { seg } from "~/api/client";
import type { Project, Workload } from "~/api/types";
import { isOver, recentQuery } from "~/api/workloads";
import { useRefresh } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import grid from "~/shell/Grid.module.css";
import css from "./Home.module.css";

export function Home() {
  const me = useMe();
  const projects = useQuery(projectsQuery);
  const shown = (projects.data ?? []).slice(0, 24);
  const recents = useQueries({ queries: shown.map((project) => recentQuery(project.name, 30)) });
  const workloads = recents.flatMap((query) => query.data?.items ?? []).sort((a, b) => b.created_at.localeCompare(a.created_at));
  const mine = workloads.filter((workload) => workload.owner === me?.user);
  const active = workloads.filter((workload) => !isOver(workload));
  const failed = mine.filter((workload) => workload.state === "failed").slice(0, 6);
  const pending = recents.some((query) => query.isPending) || projects.isPending;
  return (
    <>
      {shown.map((project) => <Fresh key={project.name} project={project.name} />)}
      <Title note={`${shown.length} ${shown.length === 1 ? "project" : "projects"} · ${active.length} running or waiting`}>Hello, {me?.display_name}</Title>
      <div className={grid.grid}>
        <div className={`${grid.w8} ${grid.stack}`}>
          <Panel title="Running and waiting" flush>
            {pending ? <div style={{ height: 140 }} aria-busy="true" /> : <Work workloads={active.slice(0, 12)} nothing="Nothing runs now." />}
          </Panel>
          <Panel title="Recent work of yours" flush>
            {pending ? <div style={{ height: 240 }} aria-busy="true" /> : <Work workloads={mine.filter(isOver).slice(0, 10)} nothing="What you start shows up here." command="narf run train.py" />}
          </Panel>
        </div>
        <div className={`${grid.w4} ${grid.stack}`}>
          <Panel title="Needs you" flush>
            {failed.length ? <Work workloads={failed} nothing="" narrow /> : <p className={css.quiet}>Nothing of yours has failed lately.</p>}
          </Panel>
          <Panel title="Projects" flush>
            <Loaded query={projects} height={120}>
              {(items) => items.length === 0
                ? <Empty title="You are in no project yet" command="narf project create vision">Ask an admin to add you, or make one.</Empty>
                : <ul className={css.projects}>{items.map((project, i) => <ProjectRow key={project.id} project={project} open={(recents[i]?.data?.items ?? []).filter((workload) => !isOver(workload)).length} />)}</ul>}
            </Loaded>
          </Panel>
        </div>
      </div>
    </>
  );
}

/** Reads a project's work again when something of it changes. */
function Fresh({ project }: { project: string }) {
  useRefresh(`projects/${project}/workloads`, ["workloads", project]);
  return null;
}

function ProjectRow({ project, open }: { project: Project; open: number }) {
  return (
    <li>
      <Link to={`/p/${seg(project.name)}` as "/home"} className={css.project}>
        <span><b>{project.name}</b>{project.description && <span className="dim truncate">{project.description}</span>}</span>
        <span className="dim">{open ? `${open} active` : (project.role ?? "")}</span>
      </Link>
    </li>
  );
}

function Work({ workloads, nothing, command, narrow = false }: { workloads: readonly Workload[]; nothing: string; command?: string; narrow?: boolean }) {
  if (workloads.length === 0) return command ? <Empty title={nothing} command={command} /> : <p className={css.quiet}>{nothing}</p>;
  return (
    <ul className={css.work}>
      {workloads.map((workload) => (
        <li key={workload.id}>
          <Link to={`/p/${seg(workload.project)}/workloads/${workload.id}` as "/home"} className={css.item} data-narrow={narrow || undefined}>
            <span className="truncate"><b>{workload.name}</b></span>
            <State state={workload.state} />
            {!narrow && <span className="dim truncate">{workload.project}</span>}
            {!narrow && <span className="dim truncate">{workload.owner}</span>}
            <span className={css.when}><Ago at={workload.created_at} /></span>
          </Link>
        </li>
      ))}
    </ul>
  );
}
