/** The searches of a project, and what all of them together say of each script. */
import { Button, SegmentedControl } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { seg } from "~/api/client";
import { boardQuery, studiesQuery, trialCount, type Board, type Study } from "~/api/studies";
import { count, percent, plural, value } from "~/format/number";
import { duration } from "~/format/time";
import { useRefreshNoun } from "~/live/useLive";
import { Empty, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Title } from "~/shell/Title";
import { Table, type Column } from "~/table/Table";
import css from "./Tuning.module.css";

const columns = (project: string): Column<Study>[] => [
  { key: "name", label: "Study", width: 220, cell: (study) => study.name, show: (study) => <Link className="name" to={`/p/${seg(project)}/tuning/${study.id}` as "/home"}>{study.name}</Link> },
  { key: "state", label: "State", width: 120, cell: (study) => study.state, show: (study) => <State state={study.state} /> },
  { key: "script", label: "Script", width: 150, cell: (study) => study.script, show: (study) => <code>{study.script}</code> },
  { key: "metric", label: "Metric", width: 150, cell: (study) => study.metric, show: (study) => `${study.direction === "maximize" ? "↑" : "↓"} ${study.metric}` },
  { key: "best", label: "Best", width: 110, numeric: true, cell: (study) => study.best_value, show: (study) => value(study.best_value) },
  { key: "trials", label: "Trials", width: 110, numeric: true, cell: trialCount, show: (study) => `${count(trialCount(study))}${study.budget.trials ? ` of ${count(study.budget.trials)}` : ""}` },
  { key: "spent", label: "Time", width: 90, numeric: true, cell: (study) => study.spent_seconds, show: (study) => duration(study.spent_seconds) },
  { key: "created", label: "Created", width: 100, numeric: true, cell: (study) => Date.parse(study.created_at), show: (study) => <Ago at={study.created_at} /> },
  { key: "owner", label: "Owner", width: 100, cell: (study) => study.owner },
  { key: "sampler", label: "Sampler", width: 100, optional: true, cell: (study) => study.sampler },
  { key: "pruner", label: "Pruner", width: 100, optional: true, cell: (study) => study.pruner },
  { key: "engine", label: "Engine", width: 100, optional: true, cell: (study) => study.engine },
];

export function Tuning() {
  const { project } = useParams({ strict: false }) as { project: string };
  const view = useSearch({ strict: false }) as { q?: string; sort?: string; columns?: string; tab?: string };
  const navigate = useNavigate();
  const query = useQuery(studiesQuery(project));
  useRefreshNoun(project, "studies", ["studies", project], ["board", project]);
  const set = (next: object) => void navigate({ search: { ...view, ...next } as never, replace: true } as never);
  const board = view.tab === "board";
  return (
    <>
      <Title
        note="Searches over the parameters of unchanged scripts"
        actions={
          <>
            <SegmentedControl aria-label="View" value={board ? "board" : "studies"} onChange={(tab) => set({ tab: tab === "board" ? tab : undefined })} data={[{ value: "studies", label: "Studies" }, { value: "board", label: "Board" }]} />
            <Button leftSection={<IconPlus size={14} />} onClick={() => void navigate({ to: `/p/${seg(project)}/tuning/new` as never })}>New study</Button>
          </>
        }
      >Tuning</Title>
      {board ? <Boards project={project} /> : (
        <Panel flush>
          <Loaded query={query} height={400}>
            {(studies) => (
              <Table
                label="Studies" rows={studies} columns={columns(project)} rowKey={(study) => study.id} view={view} onView={set} height="calc(100vh - 210px)"
                onOpen={(study) => void navigate({ to: `/p/${seg(project)}/tuning/${study.id}` as never })}
                empty={<Empty title="No studies yet" command={`narf tune train.py --project ${project}`}>The script's parameters are found, ranges proposed, and the best values searched; nothing in the script changes.</Empty>}
              />
            )}
          </Loaded>
        </Panel>
      )}
    </>
  );
}

function Boards({ project }: { project: string }) {
  const query = useQuery(boardQuery(project));
  return (
    <Loaded query={query} height={300}>
      {({ groups }) => groups.length === 0 ? <Panel><Empty title="Nothing was searched yet" command={`narf tune train.py --project ${project}`} /></Panel> : (
        <div className={css.boards}>{groups.map((group) => <Group key={`${group.script} ${group.metric}`} group={group} project={project} />)}</div>
      )}
    </Loaded>
  );
}

function Group({ group, project }: { group: Board["groups"][number]; project: string }) {
  return (
    <Panel title={<h2><code>{group.script}</code> · {group.direction === "maximize" ? "↑" : "↓"} {group.metric}</h2>} note={`${plural(group.trials, "trial")} in ${group.studies.join(", ")}`} flush
      actions={group.best_value !== null && <span>best <b>{value(group.best_value)}</b>{group.best_study && <> in <Link className="link" to={`/p/${seg(project)}/tuning` as "/home"} search={{ q: group.best_study } as never}>{group.best_study}</Link></>}</span>}>
      <div className={css.wide}><table className={css.board}>
        <thead><tr><th>Parameter</th><th>Importance over all studies</th><th>Best value</th><th>Best region</th></tr></thead>
        <tbody>
          {group.parameters.map((row) => (
            <tr key={row.parameter}>
              <th scope="row"><code>{row.parameter}</code></th>
              <td><span className={css.bar} aria-hidden><i style={{ width: `${(row.importance ?? 0) * 100}%` }} /></span> {percent(row.importance)}</td>
              <td className="mono">{shown(group.best_values[row.parameter])}</td>
              <td className="mono">{row.best_choices?.length ? row.best_choices.map(String).join(", ") : row.best_low !== null && row.best_low !== undefined ? `${shown(row.best_low)} … ${shown(row.best_high)}` : "–"}</td>
            </tr>
          ))}
        </tbody>
      </table></div>
    </Panel>
  );
}

const shown = (each: unknown): string => (typeof each === "number" ? value(each, 4) : each === null || each === undefined ? "–" : String(each));
