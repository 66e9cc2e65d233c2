/** The datasets of a project, and the sources they come from. */
import { Badge, Button, SegmentedControl } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { post, seg } from "~/api/client";
import { datasetsQuery, sourcesQuery, type Dataset, type Source } from "~/api/data";
import { done } from "~/api/query";
import { bytes, count } from "~/format/number";
import { useRefreshNoun } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { Table, type Column } from "~/table/Table";

const columns = (project: string): Column<Dataset>[] => [
  { key: "name", label: "Dataset", width: 220, cell: (each) => each.name, show: (each) => <Link className="name" to={`/p/${seg(project)}/data/${seg(each.name)}` as "/home"}>{each.name}</Link> },
  { key: "latest", label: "Newest", width: 90, cell: (each) => each.latest?.version },
  { key: "versions", label: "Versions", width: 90, numeric: true, cell: (each) => each.versions },
  { key: "kind", label: "Kind", width: 90, cell: (each) => each.latest?.kind },
  { key: "rows", label: "Rows", width: 110, numeric: true, cell: (each) => each.latest?.rows, show: (each) => (each.latest?.rows === null || each.latest === null ? "–" : count(each.latest.rows)) },
  { key: "size", label: "Size", width: 100, numeric: true, cell: (each) => each.latest?.size_bytes, show: (each) => bytes(each.latest?.size_bytes) },
  { key: "tags", label: "Tags", width: 200, cell: (each) => Object.keys(each.tags), show: (each) => Object.entries(each.tags).map(([tag, version]) => <Badge key={tag} variant="light" tt="none" fw={500} mr={6}>{tag} → {version}</Badge>) },
  { key: "updated", label: "Changed", width: 110, numeric: true, cell: (each) => Date.parse(each.updated_at), show: (each) => <Ago at={each.updated_at} /> },
  { key: "description", label: "Description", width: 200, grow: true, cell: (each) => each.description },
];

export function Data() {
  const { project } = useParams({ strict: false }) as { project: string };
  const view = useSearch({ strict: false }) as { q?: string; sort?: string; columns?: string; tab?: string };
  const navigate = useNavigate();
  const query = useQuery(datasetsQuery(project));
  useRefreshNoun(project, "datasets", ["datasets", project], ["sources", project]);
  const set = (next: object) => void navigate({ search: { ...view, ...next } as never, replace: true } as never);
  const sources = view.tab === "sources";
  return (
    <>
      <Title note="Immutable versions, named by their content" actions={<SegmentedControl aria-label="View" value={sources ? "sources" : "datasets"} onChange={(tab) => set({ tab: tab === "sources" ? tab : undefined })} data={[{ value: "datasets", label: "Datasets" }, { value: "sources", label: "Sources" }]} />}>Data</Title>
      {sources ? <Sources project={project} /> : (
        <Panel flush>
          <Loaded query={query} height={400}>
            {(datasets) => (
              <Table
                label="Datasets" rows={datasets} columns={columns(project)} rowKey={(each) => each.name} view={view} onView={set} noun="dataset" height="calc(100vh - 210px)" hint="Filter: words, rows>1000"
                onOpen={(each) => void navigate({ to: `/p/${seg(project)}/data/${seg(each.name)}` as never })}
                empty={<Empty title="No data yet" command={`narf data add digits ./folder --project ${project}`}>A folder, a table or a query becomes a version that never changes; runs name it and keep it.</Empty>}
              />
            )}
          </Loaded>
        </Panel>
      )}
    </>
  );
}

function Sources({ project }: { project: string }) {
  const query = useQuery(sourcesQuery(project));
  const test = useMutation({ mutationFn: (name: string) => post<{ ok: boolean; detail: string }>(`/api/v1/projects/${seg(project)}/sources/${seg(name)}/test`), onSuccess: ({ ok, detail }) => done(`${ok ? "It answers." : "It does not answer."} ${detail}`) });
  const shown: Column<Source>[] = [
    { key: "name", label: "Source", width: 200, cell: (each) => each.name },
    { key: "kind", label: "Kind", width: 120, cell: (each) => each.kind },
    { key: "tested", label: "State", width: 120, cell: (each) => (each.tested ? "ready" : "pending"), show: (each) => <State state={each.tested ? "ready" : "pending"} /> },
    { key: "options", label: "Options", width: 420, cell: (each) => Object.entries(each.options).map(([key, text]) => `${key}=${text}`).join(" "), show: (each) => <code>{Object.entries(each.options).map(([key, text]) => `${key}=${text}`).join(" ")}</code> },
    { key: "by", label: "Made by", width: 110, cell: (each) => each.created_by },
    { key: "created", label: "Created", width: 100, numeric: true, cell: (each) => Date.parse(each.created_at), show: (each) => <Ago at={each.created_at} /> },
    { key: "test", label: "", width: 90, cell: () => null, show: (each) => <Button size="compact-xs" variant="default" loading={test.isPending && test.variables === each.name} onClick={() => test.mutate(each.name)}>Test</Button> },
  ];
  return (
    <Panel flush>
      <Loaded query={query} height={300}>
        {(sources) => <Table label="Sources" rows={sources} columns={shown} rowKey={(each) => each.name} view={{}} onView={() => undefined} noun="source" height="calc(100vh - 210px)" empty={<Empty title="No sources" command={`narf sources add warehouse --kind postgresql --project ${project}`}>A database or a bucket is set up once, with its secret, and then used by name.</Empty>} />}
      </Loaded>
    </Panel>
  );
}
