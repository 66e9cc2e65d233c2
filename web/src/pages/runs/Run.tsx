/** One run: its curves as they grow, what went into it, what came out, and its output. */
import { ActionIcon, Button, Group, Menu, Tabs, Textarea, TextInput } from "@mantine/core";
import { IconCheck, IconDots, IconPencil, IconRefresh, IconTrash } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { post, Problem, seg, send } from "~/api/client";
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
import css from "./Pairs.module.css";

const isSystem = (metric: string) => /^system[/_]/.test(metric);
const ENVIRONMENT = /^(narf\.env|python\.|os$|machine\.|gpu\.|seed\.|cuda\.)/;
const CODE = /^(narf\.(code|snapshot|arguments)|mlflow\.(source|gitCommit)|git\.|command$)/;
const INNER = /^(mlflow|narf)\./;
const NOTE = "mlflow.note.content";

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
  const diffTag = run.tags["narf.code.diff"];
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
            <div className={`${grid.w6} ${grid.stack}`}>
              <Note run={run} />
              <Panel title="Parameters" note={count(Object.keys(run.params).length)} flush><Pairs pairs={Object.entries(run.params)} nothing="No parameters were seen." label="Parameters" /></Panel>
              <Panel title="Data" flush><Pairs pairs={run.datasets.map((each) => [each.name + (each.context ? ` (${each.context})` : ""), each.digest])} nothing="No dataset was recorded." label="Data" /></Panel>
            </div>
            <div className={`${grid.w6} ${grid.stack}`}>
              <Panel title="Metrics" note="newest value, least and greatest" flush><Loaded query={metrics} height={160}>{(rows) => <Values metrics={rows.filter((metric) => !isSystem(metric.key))} />}</Loaded></Panel>
              <Panel title="Tags" flush><Pairs pairs={tags.filter(([name]) => !CODE.test(name) && !ENVIRONMENT.test(name) && !INNER.test(name))} nothing="No tags." label="Tags" /></Panel>
            </div>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="code">
          <div className={grid.stack}>
            <Panel title="Where the code came from" flush><Pairs pairs={tags.filter(([name]) => CODE.test(name) && name !== "narf.code.diff")} nothing="Nothing is known of its code." label="Code" /></Panel>
            <Uncommitted run={run.id} tag={diffTag} expected={run.tags["git.dirty"] === "true"} />
            <Panel title="The same from a terminal"><Command text={`narf run-show ${run.id}`} /></Panel>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="environment">
          <div className={grid.grid}>
            <div className={`${grid.w6} ${grid.stack}`}>
              <Panel title="Machine and interpreter" flush><Pairs pairs={tags.filter(([name]) => ENVIRONMENT.test(name))} nothing="Its machine was not recorded." label="Machine and interpreter" /></Panel>
              <Recorded run={run.id} path="environment/variables.json" title="Environment variables" nothing="No variable that changes a result was set." read={(text) => Object.entries(JSON.parse(text) as Record<string, string>)} />
            </div>
            <div className={`${grid.w6} ${grid.stack}`}>
              <Recorded run={run.id} path="environment/packages.txt" title="Packages" nothing="Its packages were not recorded." read={(text) => text.split("\n").filter(Boolean).map((line) => { const [name = "", version = ""] = line.split("=="); return [name, version]; })} />
            </div>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="artifacts"><Artifacts run={run.id} path={search.path ?? ""} onPath={(path) => set({ path: path || undefined })} /></Tabs.Panel>
        <Tabs.Panel value="output">{run.workload ? <Output workload={run.workload} /> : <Panel><Empty title="No output here">This run was logged from outside; only workloads of this platform keep their output.</Empty></Panel>}</Tabs.Panel>
      </Tabs>
    </>
  );
}

/** The text of an artifact, null where there is none. */
const textQuery = (run: string, path: string, enabled = true) => ({
  queryKey: ["artifact", run, path, "text"], enabled, staleTime: 60_000,
  queryFn: async ({ signal }: { signal: AbortSignal }) => {
    try {
      return await (await send("GET", `/api/v1/runs/${seg(run)}/artifacts/${path}`, { signal })).text();
    } catch (error) {
      if (error instanceof Problem && error.status === 404) return null;
      throw error;
    }
  },
});

function Recorded({ run, path, title, nothing, read }: { run: string; path: string; title: string; nothing: string; read: (text: string) => (readonly [string, string])[] }) {
  const query = useQuery(textQuery(run, path));
  return <Panel title={title} flush><Loaded query={query} height={160}>{(text) => <Pairs pairs={text === null ? [] : read(text)} nothing={nothing} label={title} />}</Loaded></Panel>;
}

function Uncommitted({ run, tag, expected }: { run: string; tag: string | undefined; expected: boolean }) {
  const query = useQuery(textQuery(run, "code/uncommitted.diff", expected && !tag));
  const text = tag ?? query.data;
  if (!text && !(expected && query.isLoading)) return null;
  return <Panel title="Changes that were not committed" flush>{text ? <Diff text={text} /> : <div style={{ height: 120 }} aria-busy="true" />}</Panel>;
}

/** What people write about a run; text, not markup, wherever it is shown. */
function Note({ run }: { run: RunDetail }) {
  const [draft, setDraft] = useState<string | null>(null);
  const change = useChangeRun(run.id);
  const text = run.tags[NOTE] ?? "";
  return (
    <Panel title="Note" actions={draft === null ? <Button size="compact-xs" variant="default" leftSection={<IconPencil size={12} />} onClick={() => setDraft(text)}>{text ? "Edit" : "Write one"}</Button> : null}>
      {draft === null ? <p style={{ whiteSpace: "pre-wrap", overflowWrap: "anywhere" }} className={text ? undefined : "dim"}>{text || "What was tried, what was learnt."}</p> : (
        <form onSubmit={(event) => { event.preventDefault(); change.mutate({ tags: { [NOTE]: draft } }); setDraft(null); }}>
          <Textarea aria-label="Note" autosize minRows={3} maxRows={14} autoFocus value={draft} onChange={(event) => setDraft(event.currentTarget.value)} />
          <Group justify="flex-end" mt={8} gap={8}><Button size="compact-xs" variant="default" onClick={() => setDraft(null)}>Leave it</Button><Button size="compact-xs" type="submit">Save</Button></Group>
        </form>
      )}
    </Panel>
  );
}

function Values({ metrics }: { metrics: readonly Metric[] }) {
  if (metrics.length === 0) return <p className={css.quiet}>No metrics yet.</p>;
  const show = (each: number | string | null | undefined) => value(number(each as number | string | null), 5);
  return (
    <div className={css.scroll} tabIndex={0} role="region" aria-label="Metrics">
      <table className={css.values}>
        <thead><tr><th>Metric</th><th className="num">Newest</th><th className="num">Least</th><th className="num">Greatest</th><th className="num">Step</th></tr></thead>
        <tbody>{[...metrics].sort((a, b) => a.key.localeCompare(b.key)).map((metric) => <tr key={metric.key}><th scope="row">{metric.key}</th><td className="num"><b>{show(metric.last)}</b></td><td className="num">{show(metric.min)}</td><td className="num">{show(metric.max)}</td><td className="num">{count(metric.last_step)}</td></tr>)}</tbody>
      </table>
    </div>
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
