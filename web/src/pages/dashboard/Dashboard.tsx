/** One project at a glance: what runs, what waits and why, what it holds of its quota, its newest curves and work. */
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useMemo } from "react";
import { get, seg, type Page } from "~/api/client";
import { clusterQuery, whyQuery } from "~/api/cluster";
import { useProjects } from "~/api/session";
import type { Run, Workload } from "~/api/types";
import { openQuery, recentQuery } from "~/api/workloads";
import { byInterest, Legend } from "~/chart/Charts";
import { MetricChart, type ChartRun } from "~/chart/MetricChart";
import { useExtend } from "~/chart/useSeries";
import { count, percent, value } from "~/format/number";
import { useLive, useRefresh } from "~/live/useLive";
import { ButtonLink } from "~/shell/ButtonLink";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { Meter } from "~/shell/Meter";
import { State } from "~/shell/State";
import { Title } from "~/shell/Title";
import { told } from "~/pages/runs/columns";
import { asked } from "~/pages/workloads/asked";
import { WorkloadRows } from "~/pages/workloads/WorkloadRows";
import grid from "~/shell/Grid.module.css";
import css from "./Dashboard.module.css";

const newestQuery = (project: string) => ({ queryKey: ["workloads", project, "runs"], queryFn: ({ signal }: { signal: AbortSignal }) => get<Page<Run>>(`/api/v1/projects/${seg(project)}/runs`, { limit: 12 }, signal) });

export function Dashboard() {
  const { project } = useParams({ strict: false }) as { project: string };
  const navigate = useNavigate();
  const about = useProjects()?.find((each) => each.name === project);
  const open = useQuery(openQuery(project));
  const recent = useQuery(recentQuery(project, 30));
  const newest = useQuery(newestQuery(project));
  const cluster = useQuery(clusterQuery);
  useRefresh(`projects/${project}/workloads`, ["workloads", project]);
  const items = open.data?.items ?? [];
  const holding = items.filter((workload) => workload.state !== "queued");
  const waiting = items.filter((workload) => workload.state === "queued");
  const gpus = holding.reduce((sum, workload) => sum + workload.resources.gpu * workload.replicas, 0);
  const cpus = holding.reduce((sum, workload) => sum + workload.resources.cpu * workload.replicas, 0);
  const over = (recent.data?.items ?? []).filter((workload) => workload.state === "succeeded" || workload.state === "failed");
  const good = over.filter((workload) => workload.state === "succeeded").length;
  const queue = cluster.data?.queues.find((each) => each.name === project);
  const quota = queue?.quota["gpu"];
  const room = quota ?? cluster.data?.gpus ?? 0;
  return (
    <>
      <Title note={about?.description || "Overview"} actions={<Button leftSection={<IconPlus size={14} />} onClick={() => void navigate({ to: `/p/${seg(project)}/new` as never })}>New run</Button>}>{project}</Title>
      <div className={grid.grid}>
        <div className={grid.w3}><Meter label={quota === undefined ? "GPUs held" : "GPU quota"} value={value(gpus, 3)} unit={room ? `of ${value(room, 4)} GPUs` : "GPUs"} share={room ? gpus / room : 0} tone="accent" note={quota === undefined ? "no quota: shares what is free" : gpus > quota ? `${value(gpus - quota, 3)} borrowed` : `${value(quota - gpus, 3)} left of the quota`} /></div>
        <div className={grid.w3}><Meter label="Running" value={count(holding.length)} unit={holding.length === 1 ? "workload" : "workloads"} share={items.length ? holding.length / items.length : 0} note={`${value(cpus, 3)} CPU cores held`} /></div>
        <div className={grid.w3}><Meter label="Queue" value={count(waiting.length)} unit="waiting" share={items.length ? waiting.length / items.length : 0} tone="warn" note={cluster.data ? `${count(cluster.data.waiting)} in the whole cluster` : ""} /></div>
        <div className={grid.w3}><Meter label="Recent outcome" value={over.length ? percent(good / over.length) : "–"} unit={over.length ? "succeeded" : ""} share={over.length ? good / over.length : 0} tone="good" note={over.length ? `of the last ${over.length} that ended` : "Nothing has ended yet"} /></div>
        {recent.data?.items.length !== 0 && (
          <>
            <div className={grid.w8}><Loaded query={newest} height={300}>{(page) => <Curves runs={page.items} project={project} />}</Loaded></div>
            <Panel title="Waiting, and why" className={`${grid.w4} ${css.waiting}`} flush>
              <Loaded query={open} height={240}>{() => <Waiting workloads={waiting} />}</Loaded>
            </Panel>
          </>
        )}
        <Panel title="Recent work" className={grid.w12 ?? ""} flush actions={<Link to={`/p/${seg(project)}/workloads` as "/home"} className="link">All workloads</Link>}>
          <Loaded query={recent} height={340}>
            {(page) => page.items.length === 0
              ? <Empty title="Nothing has run here yet" command={`narf run train.py --project ${project}`} action={<ButtonLink to={`/p/${seg(project)}/new`} variant="default">Or start a run here</ButtonLink>}>Any Python script will do: it is tracked without a change.</Empty>
              : <WorkloadRows workloads={page.items.slice(0, 14)} />}
          </Loaded>
        </Panel>
      </div>
    </>
  );
}

function Waiting({ workloads }: { workloads: readonly Workload[] }) {
  if (workloads.length === 0) return <p className={css.quiet}>Nothing waits.</p>;
  return (
    <ul className={css.list}>
      {workloads.slice(0, 5).map((workload) => (
        <li key={workload.id}>
          <div><Link className="name truncate" to={`/p/${seg(workload.project)}/workloads/${workload.id}` as "/home"}>{workload.name}</Link><span className="dim">{asked(workload)}</span></div>
          <Why workload={workload} />
        </li>
      ))}
      {workloads.length > 5 && <li className="dim">and {count(workloads.length - 5)} more</li>}
    </ul>
  );
}

function Why({ workload }: { workload: Workload }) {
  const { data } = useQuery({ ...whyQuery(workload.id), refetchInterval: 15_000 });
  return <p className="dim" title={data?.sentence}>{data?.sentence ?? workload.sentence}</p>;
}

/** The newest runs over one another, in the metric that says most about them, growing while they run. */
function Curves({ runs, project }: { runs: readonly Run[]; project: string }) {
  const metric = useMemo(() => {
    const newest = runs.find((run) => Object.keys(run.metrics).some((name) => !/^system[/_]/.test(name)));
    return newest ? Object.keys(newest.metrics).filter((name) => !/^system[/_]/.test(name)).sort(byInterest)[0] : undefined;
  }, [runs]);
  const shown = useMemo(() => runs.filter((run) => metric !== undefined && run.metrics[metric] !== undefined).slice(0, 6), [runs, metric]);
  const ids = shown.map((run) => run.id).join();
  const charted = useMemo<ChartRun[]>(() => {
    const names = told(shown);
    return shown.map((run, index) => ({ id: run.id, name: names.get(run.id) ?? run.id, index, start: Date.parse(run.created_at) / 1000 }));
  }, [ids]); // eslint-disable-line react-hooks/exhaustive-deps -- another drawing only for other runs
  if (metric === undefined || shown.length === 0) return <Panel title="Newest runs"><p className="dim" style={{ height: 230 }}>The curves of the newest runs show up here.</p></Panel>;
  const running = shown.filter((run) => run.status === "RUNNING");
  return (
    <Panel title={<h2>{metric} <span className="dim" style={{ fontWeight: 400 }}>of the newest runs</span></h2>} actions={<>{running.length > 0 && <State state="running" />}<Link className="link" to={`/p/${seg(project)}/compare` as "/home"} search={{ runs: ids } as never}>Compare them</Link></>}>
      <div className={css.bare}><MetricChart metric={metric} runs={charted} view={{ x: "step", log: false, robust: false, smoothing: 0 }} height={212} /></div>
      <Legend runs={charted} />
      {running.map((run) => <Growing key={run.id} run={run.id} />)}
    </Panel>
  );
}

/** Hears of a run's new points and has its lines extended. */
function Growing({ run }: { run: string }) {
  const client = useQueryClient();
  const extend = useExtend(run);
  useLive(`runs/${run}/metrics`, null, {
    onEvent: (event) => {
      const { metrics } = event as { metrics: Record<string, { count: number }> };
      extend(Object.fromEntries(Object.entries(metrics).map(([key, row]) => [key, row.count])));
    },
    onReset: () => void client.invalidateQueries({ queryKey: ["series"] }),
  });
  return null;
}
