/** What serves: the endpoints of a project. */
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { seg } from "~/api/client";
import { endpointsQuery, type Endpoint } from "~/api/serving";
import { useRefreshNoun } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { Table, type Column } from "~/table/Table";
import { serves } from "./serves";

const columns = (project: string): Column<Endpoint>[] => [
  { key: "name", label: "Endpoint", width: 200, cell: (each) => each.name, show: (each) => <Link className="name" to={`/p/${seg(project)}/endpoints/${seg(each.name)}` as "/home"}>{each.name}</Link> },
  { key: "state", label: "State", width: 120, cell: (each) => each.state, show: (each) => <State state={each.state} /> },
  { key: "serves", label: "Serves", width: 260, cell: serves },
  { key: "ready", label: "Ready", width: 90, numeric: true, cell: (each) => each.ready, show: (each) => `${each.ready} of ${each.most}` },
  { key: "used", label: "Last used", width: 110, numeric: true, cell: (each) => (each.last_used ? Date.parse(each.last_used) : null), show: (each) => <Ago at={each.last_used} /> },
  { key: "trouble", label: "Trouble", width: 240, grow: true, cell: (each) => each.trouble || null },
  { key: "url", label: "Address", width: 320, optional: true, cell: (each) => each.url, show: (each) => <code>{each.url}</code> },
  { key: "owner", label: "Made by", width: 110, optional: true, cell: (each) => each.created_by },
];

export function Endpoints() {
  const { project } = useParams({ strict: false }) as { project: string };
  const view = useSearch({ strict: false }) as { q?: string; sort?: string; columns?: string };
  const navigate = useNavigate();
  const query = useQuery(endpointsQuery(project));
  useRefreshNoun(project, "endpoints", ["endpoints", project]);
  return (
    <>
      <Title note="Models behind an address: scaled, watched, rolled out step by step">Endpoints</Title>
      <Panel flush>
        <Loaded query={query} height={400}>
          {(endpoints) => (
            <Table
              label="Endpoints" rows={endpoints} columns={columns(project)} rowKey={(each) => each.id} view={view} noun="endpoint" height="calc(100vh - 210px)" hint="Filter: words, state:ready"
              onView={(next) => void navigate({ search: next as never, replace: true } as never)} onOpen={(each) => void navigate({ to: `/p/${seg(project)}/endpoints/${seg(each.name)}` as never })}
              empty={<Empty title="Nothing is deployed" command={`narf deploy digits@champion --project ${project}`}>Any registered model version can be served; or press Deploy on its page.</Empty>}
            />
          )}
        </Loaded>
      </Panel>
    </>
  );
}
