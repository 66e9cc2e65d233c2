/** One project at a glance: what runs, what waits, what it holds, and its recent work. */
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useProjects } from "~/api/session";
import { seg } from "~/api/client";
import { openQuery, recentQuery } from "~/api/workloads";
import { plural } from "~/format/number";
import { useRefresh } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { Meter } from "~/shell/Meter";
import { Title } from "~/shell/Title";
import { WorkloadRows } from "~/pages/workloads/WorkloadRows";
import grid from "~/shell/Grid.module.css";

export function Dashboard() {
  const { project } = useParams({ strict: false }) as { project: string };
  const navigate = useNavigate();
  const about = useProjects()?.find((each) => each.name === project);
  const open = useQuery(openQuery(project));
  const recent = useQuery(recentQuery(project, 30));
  useRefresh(`projects/${project}/workloads`, ["workloads", project]);
  const items = open.data?.items ?? [];
  const holding = items.filter((workload) => workload.state !== "queued");
  const waiting = items.length - holding.length;
  const gpus = holding.reduce((sum, workload) => sum + workload.resources.gpu * workload.replicas, 0);
  const cpus = holding.reduce((sum, workload) => sum + workload.resources.cpu * workload.replicas, 0);
  const over = (recent.data?.items ?? []).filter((workload) => workload.state === "succeeded" || workload.state === "failed");
  const good = over.filter((workload) => workload.state === "succeeded").length;
  return (
    <>
      <Title note={about?.description || "Overview"} actions={<Button leftSection={<IconPlus size={14} />} onClick={() => void navigate({ to: `/p/${seg(project)}/new` as never })}>New run</Button>}>{project}</Title>
      <div className={grid.grid}>
        <div className={grid.w3}><Meter label="Running" value={holding.length} unit={plural(holding.length, "workload").replace(/^\S+ /, "")} share={items.length ? holding.length / items.length : 0} note={`${Number(cpus.toFixed(1))} CPU cores held`} /></div>
        <div className={grid.w3}><Meter label="Queue" value={waiting} unit="waiting" share={items.length ? waiting / items.length : 0} tone="warn" note={waiting ? "Open one to see why it waits" : "Nothing waits"} /></div>
        <div className={grid.w3}><Meter label="GPUs held" value={Number(gpus.toFixed(2))} unit="GPUs" share={gpus ? 1 : 0} tone="accent" note={gpus ? "by running work" : "None in use"} /></div>
        <div className={grid.w3}><Meter label="Recent outcome" value={over.length ? `${Math.round((good / over.length) * 100)}%` : "–"} unit={over.length ? "succeeded" : ""} share={over.length ? good / over.length : 0} tone="good" note={over.length ? `of the last ${over.length} that ended` : "Nothing has ended yet"} /></div>
        <Panel title="Recent work" className={grid.w12 ?? ""} flush actions={<Link to={`/p/${seg(project)}/workloads` as "/home"} className="link">All workloads</Link>}>
          <Loaded query={recent} height={340}>
            {(page) => page.items.length === 0
              ? <Empty title="Nothing has run here yet" command={`narf run train.py --project ${project}`}>Any Python script will do: it is tracked without a change.</Empty>
              : <WorkloadRows workloads={page.items.slice(0, 14)} />}
          </Loaded>
        </Panel>
      </div>
    </>
  );
}
