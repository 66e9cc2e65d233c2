/** The models of a project. */
import { Badge } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { seg } from "~/api/client";
import { modelsQuery, type Model } from "~/api/serving";
import { useRefreshNoun } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { Table, type Column } from "~/table/Table";

const columns = (project: string): Column<Model>[] => [
  { key: "name", label: "Model", width: 240, cell: (model) => model.name, show: (model) => <Link className="name" to={`/p/${seg(project)}/models/${seg(model.name)}` as "/home"}>{model.name}</Link> },
  { key: "latest", label: "Newest version", width: 130, numeric: true, cell: (model) => model.latest },
  { key: "aliases", label: "Aliases", width: 260, cell: (model) => Object.keys(model.aliases), show: (model) => Object.entries(model.aliases).map(([alias, version]) => <Badge key={alias} variant="light" tt="none" fw={500} mr={6}>{alias} → {version}</Badge>) },
  { key: "description", label: "Description", width: 220, grow: true, cell: (model) => model.description },
  { key: "updated", label: "Changed", width: 110, numeric: true, cell: (model) => Date.parse(model.updated_at), show: (model) => <Ago at={model.updated_at} /> },
  { key: "created", label: "Created", width: 110, numeric: true, optional: true, cell: (model) => Date.parse(model.created_at), show: (model) => <Ago at={model.created_at} /> },
];

export function Models() {
  const { project } = useParams({ strict: false }) as { project: string };
  const view = useSearch({ strict: false }) as { q?: string; sort?: string; columns?: string };
  const navigate = useNavigate();
  const query = useQuery(modelsQuery(project));
  useRefreshNoun(project, "models", ["models", project]);
  return (
    <>
      <Title note="Versions that can be deployed, and where each comes from">Models</Title>
      <Panel flush>
        <Loaded query={query} height={400}>
          {(models) => (
            <Table
              label="Models" rows={models} columns={columns(project)} rowKey={(model) => model.name} view={view} noun="model" height="calc(100vh - 210px)" hint="Filter: words, latest>2"
              onView={(next) => void navigate({ search: next as never, replace: true } as never)} onOpen={(model) => void navigate({ to: `/p/${seg(project)}/models/${seg(model.name)}` as never })}
              empty={<Empty title="No models yet" command={`narf models register RUN --name digits --project ${project}`}>A model that a run has logged becomes a version; it is packaged for the fastest runtime that gives the same answers.</Empty>}
            />
          )}
        </Loaded>
      </Panel>
    </>
  );
}
