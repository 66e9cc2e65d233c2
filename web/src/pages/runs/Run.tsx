/** One run: its curves as they grow, what went into it, what came out, and its output. */
import { ActionIcon, Button, Menu, Tabs, TextInput } from "@mantine/core";
import { IconCheck, IconDots, IconPencil, IconRefresh, IconTrash } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { post, seg } from "~/api/client";
import { done } from "~/api/query";
import { deleteRun, metricsQuery, number, runQuery, runState, useChangeRun } from "~/api/runs";
import type { Metric, RunDetail } from "~/api/types";
import { workloadQuery } from "~/api/workloads";
import { Charts, type ChartSearch } from "~/chart/Charts";
import { useExtend } from "~/chart/useSeries";
import { count, value } from "~/format/number";
import { between, duration } from "~/format/time";
import { useLive, useRefresh } from "~/live/useLive";
import { LogView } from "~/log/LogView";
import { useLog } from "~/pages/workloads/useLog";
import { ButtonLink } from "~/shell/ButtonLink";
import { Command, Empty, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago, useNow } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { Artifacts } from "./Artifacts";
import { Diff } from "./Diff";
import { label } from "./columns";
import { Pairs } from "./Pairs";
import grid from "~/shell/Grid.module.css";

const isSystem = (metric: string) => /^system[/_]/.test(metric);
const ENVIRONMENT = /^narf\.(env|python|os|cpu|gpu|packages|hardware|driver|lock|seed|platform|host)/;
const CODE = /^(narf\.(git|code|snapshot|script|command|arguments)|mlflow\.source)/;

export function RunPage() {
  const { project, id } = useParams({ strict: false }) as { project: string; id: string };
  const query = useQuery(runQuery(id));
  useRefresh(`projects/${project}/workloads`, ["run", id]);
  return <Loaded query={query} height={500}>{(run) => <Shown run={run} project={project} />}</Loaded>;
}

function Shown({ run, project }: { run: RunDetail; project: string }) {
  const search = useSearch({ strict: false }) as ChartSearch & { tab?: string; path?: string };
  const navigate = useNavigate();
  const client = useQueryClient();
  const metrics = useQuery(metricsQuery(run.id));
  const now = useNow();
  const moving = run.status === "RUNNING" || run.status === "SCHEDULED";
  const extend = useExtend(run.id);
  useLive(`runs/${run.id}/metrics`, null, {
    onEvent: (event) => {
      const { metrics: rows } = event as { metrics: Record<string, Omit<Metric, "key">> };
      client.setQueryData<Metric[]>(["metrics", run.id], Object.entries(rows).map(([key, row]) => ({ key, ...row })));
      extend(Object.fromEntries(Object.entries(rows).map(([key, row]) => [key, row.count])));
    },
  });
  // When it has ended everything is read once more: what was drawn piece by piece becomes what is stored.
  useEffect(() => {
    if (!moving) void client.invalidateQueries({ queryKey: ["series"], predicate: ({ queryKey }) => String(queryKey[2]).includes(run.id) });
  }, [moving, client, run.id]);
  const keys = useMemo(() => (metrics.data ?? []).map((metric) => metric.key), [metrics.data]);
  const charted = useMemo(() => [{ id: run.id, name: label(run), index: 0, start: Date.parse(run.created_at) / 1000 }], [run]);
  const set = (next: object) => void navigate({ search: { ...search, ...next } as never, replace: true } as never);
  const charts = (own: string[], nothing: React.ReactNode) => (own.length ? <Charts metrics={own} runs={charted} search={search} onSearch={set} live={moving} /> : nothing);
  const tags = Object.entries(run.tags);
  const patchText = run.tags["narf.git.diff"] ?? run.tags["narf.code.diff"];
  return (
    <>
      <Title
        note={<><State state={runState(run.status)} /><span>·</span><span>{run.user}</span><span>·</span><span>{run.experiment}</span><span>·</span><Ago at={run.created_at} /><span>·</span><span>{duration(between(run.created_at, run.ended_at, now))}</span><span>·</span><code>{run.id}</code></>}
        actions={<Actions run={run} project={project} />}
      ><Name run={run} /></Title>
      <Tabs value={search.tab ?? "charts"} onChange={(tab) => set({ tab: tab === "charts" ? undefined : tab, path: undefined })} keepMounted={false}>
        <Tabs.List mb={12}>
          <Tabs.Tab value="charts">Charts</Tabs.Tab>
          <Tabs.Tab value="overview">Overview</Tabs.Tab>
          <Tabs.Tab value="system">System</Tabs.Tab>
          <Tabs.Tab value="code">Code</Tabs.Tab>
          <Tabs.Tab value="environment">Environment</Tabs.Tab>
          <Tabs.Tab value="artifacts">Artifacts</Tabs.Tab>
          <Tabs.Tab value="output">Output</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="charts">
          <Loaded query={metrics} height={360}>
            {() => charts(keys.filter((key) => !isSystem(key)), <Panel><Empty title={moving ? "No metric yet" : "This run has no metrics"}>{moving ? "The curve begins with the first value that the script logs." : <>A training loop in PyTorch or Lightning is seen by itself; anything else logs with <code>narf.log(loss=…)</code> or MLflow.</>}</Empty></Panel>)}
          </Loaded>
        </Tabs.Panel>
        <Tabs.Panel value="system"><Loaded query={metrics} height={360}>{() => charts(keys.filter(isSystem), <Panel><Empty title="No system metrics">They are taken every few seconds while a workload of this platform runs.</Empty></Panel>)}</Loaded></Tabs.Panel>
        <Tabs.Panel value="overview">
          <div className={grid.grid}>
            <Panel title="Parameters" note={count(Object.keys(run.params).length)} className={grid.w6 ?? ""} flush><Pairs pairs={Object.entries(run.params)} nothing="No parameters were seen." label="Parameters" /></Panel>
            <Panel title="Metrics" note="latest values" className={grid.w6 ?? ""} flush><Pairs pairs={Object.entries(run.metrics).map(([name, each]) => [name, value(number(each), 7)])} nothing="No metrics yet." numeric label="Metrics" /></Panel>
            <Panel title="Data" className={grid.w6 ?? ""} flush><Pairs pairs={run.datasets.map((each) => [each.name + (each.context ? ` (${each.context})` : ""), each.digest])} nothing="No dataset was recorded." label="Data" /></Panel>
            <Panel title="Tags" className={grid.w6 ?? ""} flush><Pairs pairs={tags.filter(([name]) => !CODE.test(name) && !ENVIRONMENT.test(name))} nothing="No tags." label="Tags" /></Panel>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="code">
          <div className={grid.stack}>
            <Panel title="Where the code came from" flush><Pairs pairs={tags.filter(([name, text]) => CODE.test(name) && text !== patchText)} nothing="Nothing is known of its code." label="Code" /></Panel>
            {patchText && <Panel title="Changes that were not committed" flush><Diff text={patchText} /></Panel>}
            <Panel title="The same from a terminal"><Command text={`narf run-show ${run.id}`} /></Panel>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="environment"><Panel title="Environment" flush><Pairs pairs={tags.filter(([name]) => ENVIRONMENT.test(name))} nothing="Its environment was not recorded." label="Environment" /></Panel></Tabs.Panel>
        <Tabs.Panel value="artifacts"><Artifacts run={run.id} path={search.path ?? ""} onPath={(path) => set({ path: path || undefined })} /></Tabs.Panel>
        <Tabs.Panel value="output">{run.workload ? <Output workload={run.workload} /> : <Panel><Empty title="No output here">This run was logged from outside; only workloads of this platform keep their output.</Empty></Panel>}</Tabs.Panel>
      </Tabs>
    </>
  );
}

function Output({ workload }: { workload: string }) {
  const query = useQuery(workloadQuery(workload));
  const attempt = query.data?.attempts.length ? Math.max(...query.data.attempts.map((each) => each.attempt)) : null;
  const output = useLog(workload, attempt);
  return <Panel flush><LogView lines={output.lines} height="calc(100vh - 260px)" note={output.complete ? "complete" : "following"} /></Panel>;
}

function Name({ run }: { run: RunDetail }) {
  const [draft, setDraft] = useState<string | null>(null);
  const change = useChangeRun(run.id);
  if (draft === null) return <span>{label(run)} <ActionIcon size={20} aria-label="Rename" onClick={() => setDraft(run.name)}><IconPencil size={13} /></ActionIcon></span>;
  const save = () => {
    if (draft && draft !== run.name) change.mutate({ name: draft });
    setDraft(null);
  };
  return (
    <form onSubmit={(event) => { event.preventDefault(); save(); }} style={{ display: "flex", gap: 6 }}>
      <TextInput aria-label="Name of the run" autoFocus value={draft} w={360} onChange={(event) => setDraft(event.currentTarget.value)} onKeyDown={(event) => event.key === "Escape" && setDraft(null)} />
      <ActionIcon aria-label="Save" type="submit"><IconCheck size={15} /></ActionIcon>
    </form>
  );
}

function Actions({ run, project }: { run: RunDetail; project: string }) {
  const navigate = useNavigate();
  const client = useQueryClient();
  const forget = () => client.setQueryData<{ id: string }[]>(["runs", project], (runs) => runs?.filter((each) => each.id !== run.id));
  const trash = useMutation({
    mutationFn: () => deleteRun(run.id),
    onSuccess: () => {
      forget();
      done(`${label(run)} was put away. narf runs restore ${run.id} brings it back.`);
      void navigate({ to: `/p/${seg(project)}/runs` as never });
    },
  });
  const restore = useMutation({ mutationFn: () => post(`/api/v1/runs/${run.id}/restore`), onSuccess: () => void client.invalidateQueries({ queryKey: ["run", run.id] }) });
  return (
    <>
      {run.workload && <ButtonLink variant="default" to={`/p/${seg(project)}/workloads/${run.workload}`}>Open workload</ButtonLink>}
      {run.workload && <ButtonLink variant="default" leftSection={<IconRefresh size={14} />} to={`/p/${seg(project)}/new`} search={{ from: run.workload }}>Run again</ButtonLink>}
      {run.deleted && <Button variant="default" onClick={() => restore.mutate()}>Restore</Button>}
      <Menu position="bottom-end">
        <Menu.Target><ActionIcon variant="default" size={30} aria-label="More"><IconDots size={15} /></ActionIcon></Menu.Target>
        <Menu.Dropdown><Menu.Item leftSection={<IconTrash size={14} />} disabled={run.deleted} onClick={() => trash.mutate()}>Delete (can be restored)</Menu.Item></Menu.Dropdown>
      </Menu>
    </>
  );
}
