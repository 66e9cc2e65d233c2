/** Every run of a project: filter, sort, group, pick some and compare them. The address is the view; send it to share it. */
import { Button, Select, Tooltip } from "@mantine/core";
import { IconChartLine, IconLink, IconPlus } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo, useRef, useState } from "react";
import { seg } from "~/api/client";
import { done } from "~/api/query";
import { number, refreshRuns, runsQuery } from "~/api/runs";
import type { Run } from "~/api/types";
import { Charts, type ChartSearch } from "~/chart/Charts";
import { count, value } from "~/format/number";
import { useLive } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { Title } from "~/shell/Title";
import { predicate, toggle } from "~/table/filter";
import { Table, type Column } from "~/table/Table";
import { columnsOf, label, told } from "./columns";
import { grouped, type Group } from "./group";

interface View extends ChartSearch {
  q?: string | undefined;
  sort?: string | undefined;
  columns?: string | undefined;
  group?: string | undefined;
  charts?: string | undefined;
}

export function Runs() {
  const { project } = useParams({ strict: false }) as { project: string };
  const view = useSearch({ strict: false }) as View;
  const navigate = useNavigate();
  const client = useQueryClient();
  const query = useQuery(runsQuery(client, project));
  const [picked, setPicked] = useState<Set<string>>(new Set());
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const refresh = () => {
    timer.current ??= setTimeout(() => {
      timer.current = null;
      void refreshRuns(client, project).catch(() => undefined); // the next event tries again
    }, 700);
  };
  useLive(`projects/${project}/workloads`, null, { onEvent: refresh, onReady: refresh, onReset: refresh });
  useLive(`projects/${project}/runs`, null, { onEvent: refresh });
  const rows = useMemo(() => query.data ?? [], [query.data]);
  const columns = useMemo(() => columnsOf(rows), [rows]);
  const set = (next: View) => void navigate({ search: next as never, replace: true } as never);
  const open = (run: Run) => void navigate({ to: `/p/${seg(project)}/runs/${run.id}` as never });
  const compare = () => void navigate({ to: `/p/${seg(project)}/compare` as never, search: { runs: [...picked].join(",") } as never });
  const groups = columns.filter((column) => column.group === "Parameters" || column.group === "Tags" || ["state", "user", "experiment"].includes(column.key));
  const chosen = picked.size > 0 ? rows.filter((run) => picked.has(run.id)) : rows.slice(0, 8);
  const charted = useMemo(() => chosen.slice(0, 30).map((run, index) => ({ id: run.id, name: told(chosen).get(run.id) ?? label(run), index, start: Date.parse(run.created_at) / 1000 })), [chosen]);
  const metrics = useMemo(() => [...new Set(chosen.flatMap((run) => Object.keys(run.metrics)))].filter((name) => !name.startsWith("system/")).sort(), [chosen]);
  const tools = (
    <>
      <Select aria-label="Group by" placeholder="No groups" clearable searchable w={150} value={view.group ?? null} data={groups.map((column) => ({ value: column.key, label: column.label }))} onChange={(group) => set({ ...view, group: group ?? undefined })} allowDeselect />
      <Tooltip label="Copy a link to this view"><Button variant="default" px={8} aria-label="Copy a link to this view" onClick={() => void navigator.clipboard.writeText(location.href).then(() => done("Link copied"))}><IconLink size={14} /></Button></Tooltip>
    </>
  );
  return (
    <>
      <Title
        note={query.isFetching && rows.length ? "Reading older runs…" : "Click a row to open it; Space picks it"}
        actions={
          <>
            <Button variant={view.charts ? "light" : "default"} leftSection={<IconChartLine size={14} />} aria-pressed={Boolean(view.charts)} onClick={() => set({ ...view, charts: view.charts ? undefined : "1" })}>Charts</Button>
            <Button variant="default" disabled={picked.size < 2} onClick={compare}>{picked.size > 1 ? `Compare ${picked.size}` : "Compare"}</Button>
            <Button leftSection={<IconPlus size={14} />} onClick={() => void navigate({ to: `/p/${seg(project)}/new` as never })}>New run</Button>
          </>
        }
      >Runs</Title>
      {view.charts && rows.length > 0 && <div style={{ marginBottom: 12 }}><Charts metrics={metrics} runs={charted} search={view} onSearch={(next) => set({ ...view, ...next })} /></div>}
      <Panel flush>
        <Loaded query={query} height={560}>
          {() =>
            view.group ? (
              <Grouped rows={rows} columns={columns} view={view} onView={set} tools={tools} />
            ) : (
              <Table
                label="Runs" rows={rows} columns={columns} rowKey={(run) => run.id} view={view} onView={(next) => set({ ...view, ...next })} onOpen={open} picked={picked} onPick={setPicked} tools={tools} noun="run"
                height="calc(100vh - 210px)" hint="Filter: resnet state:running loss<0.3 params.lr>=0.01"
                empty={<Empty title="No runs yet" command={`narf run train.py --project ${project}`}>An unchanged training script is enough; so is any MLflow client that points here.</Empty>}
              />
            )
          }
        </Loaded>
      </Panel>
    </>
  );
}

function Grouped({ rows, columns, view, onView, tools }: { rows: readonly Run[]; columns: readonly Column<Run>[]; view: View; onView: (view: View) => void; tools: React.ReactNode }) {
  const by = columns.find((column) => column.key === view.group);
  const metrics = useMemo(() => columns.filter((column) => column.group === "Metrics" && !column.optional).map((column) => column.key), [columns]);
  const groups = useMemo(() => {
    const byKey = new Map(columns.map((column) => [column.key, column]));
    const kept = rows.filter(predicate(view.q ?? "", (run, key) => byKey.get(key)?.cell(run), (run) => `${label(run)} ${run.user} ${run.experiment}`.toLowerCase()));
    return grouped(kept, (run) => by?.cell(run), metrics, (run, name) => number(run.metrics[name]));
  }, [rows, columns, by, metrics, view.q]);
  const shown: Column<Group>[] = [
    { key: "value", label: by?.label ?? "", width: 220, cell: (group) => group.value, show: (group) => <b style={{ fontWeight: 500 }}>{group.value}</b> },
    { key: "count", label: "Runs", width: 80, numeric: true, cell: (group) => group.count, show: (group) => count(group.count) },
    ...metrics.flatMap((name): Column<Group>[] => [
      { key: `mean ${name}`, label: `${name}, mean`, width: 150, numeric: true, cell: (group) => group.means[name], show: (group) => value(group.means[name]) },
      { key: `min ${name}`, label: "least", width: 90, numeric: true, cell: (group) => group.bests[name]?.min, show: (group) => value(group.bests[name]?.min) },
      { key: `max ${name}`, label: "greatest", width: 90, numeric: true, cell: (group) => group.bests[name]?.max, show: (group) => value(group.bests[name]?.max) },
    ]),
  ];
  return (
    <Table
      label="Groups of runs" rows={groups} columns={shown} rowKey={(group) => group.value} noun="group" tools={tools} height="calc(100vh - 210px)" hint="Filter groups" view={{ sort: view.sort }}
      onView={(next) => onView({ ...view, sort: next.sort })}
      onOpen={(group) => onView({ ...view, group: undefined, q: toggle(view.q ?? "", view.group ?? "", group.value) })}
    />
  );
}
