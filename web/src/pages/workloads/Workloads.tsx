/** Every workload of a project: what runs, what waits, what has ended. */
import { Button, SegmentedControl } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { seg } from "~/api/client";
import type { Workload } from "~/api/types";
import { isOver, workloadsQuery } from "~/api/workloads";
import { between, duration } from "~/format/time";
import { useRefresh } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { Table, type Column } from "~/table/Table";
import { asked } from "./asked";

const columns: Column<Workload>[] = [
  { key: "name", label: "Name", width: 240, cell: (row) => row.name, show: (row) => <Link className="name" to={`/p/${seg(row.project)}/workloads/${row.id}` as "/home"}>{row.name}</Link> },
  { key: "state", label: "State", width: 120, cell: (row) => row.state, show: (row) => <State state={row.state} /> },
  { key: "kind", label: "Kind", width: 110, cell: (row) => row.kind.replace("_", " ") },
  { key: "owner", label: "Owner", width: 110, cell: (row) => row.owner },
  { key: "resources", label: "Resources", width: 170, cell: asked },
  { key: "duration", label: "Duration", width: 100, numeric: true, cell: (row) => between(row.started_at, row.ended_at), show: (row) => duration(between(row.started_at, row.ended_at)) },
  { key: "created", label: "Created", width: 110, numeric: true, cell: (row) => Date.parse(row.created_at), show: (row) => <Ago at={row.created_at} /> },
  { key: "sentence", label: "Why", width: 220, grow: true, cell: (row) => row.sentence },
  { key: "id", label: "Id", width: 190, optional: true, cell: (row) => row.id, show: (row) => <code>{row.id}</code> },
  { key: "script", label: "Script", width: 180, optional: true, cell: (row) => row.script ?? row.command.join(" ") },
  { key: "priority", label: "Priority", width: 90, optional: true, numeric: true, cell: (row) => row.priority },
  { key: "attempt", label: "Attempt", width: 90, optional: true, numeric: true, cell: (row) => row.attempt },
  { key: "waited", label: "Waited", width: 100, optional: true, numeric: true, cell: (row) => between(row.queued_at, row.started_at), show: (row) => duration(between(row.queued_at, row.started_at)) },
  { key: "data", label: "Data", width: 160, optional: true, cell: (row) => row.data },
];

export function Workloads() {
  const { project } = useParams({ strict: false }) as { project: string };
  const view = useSearch({ strict: false }) as { q?: string; sort?: string; columns?: string; show?: string };
  const navigate = useNavigate();
  const query = useQuery(workloadsQuery(project));
  useRefresh(`projects/${project}/workloads`, ["workloads", project]);
  const show = view.show ?? "all";
  const rows = useMemo(() => (query.data ?? []).filter((row) => show === "all" || isOver(row) === (show === "over")), [query.data, show]);
  const set = (next: object) => void navigate({ search: next as never, replace: true } as never);
  return (
    <>
      <Title note="Everything that runs is a workload" actions={<Button leftSection={<IconPlus size={14} />} onClick={() => void navigate({ to: `/p/${seg(project)}/new` as never })}>New run</Button>}>Workloads</Title>
      <Panel flush>
        <Loaded query={query} height={560}>
          {() => (
            <Table
              label="Workloads" rows={rows} columns={columns} rowKey={(row) => row.id} view={view} onView={(next) => set({ ...view, ...next })} height="calc(100vh - 210px)" noun="workload"
              onOpen={(row) => void navigate({ to: `/p/${seg(project)}/workloads/${row.id}` as never })}
              tools={<SegmentedControl aria-label="Which workloads" data={[{ value: "all", label: "All" }, { value: "open", label: "Running and waiting" }, { value: "over", label: "Ended" }]} value={show} onChange={(value) => set({ ...view, show: value === "all" ? undefined : value })} />}
              empty={<Empty title="No workloads" command={`narf run train.py --project ${project}`}>A run, a study's trial, an endpoint's replica: all of them are listed here.</Empty>}
            />
          )}
        </Loaded>
      </Panel>
    </>
  );
}
