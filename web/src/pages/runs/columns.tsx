/** The columns of the runs table: the fixed ones, and one for each parameter, metric and tag that any run has. */
import { Link } from "@tanstack/react-router";
import { seg } from "~/api/client";
import { number, runState } from "~/api/runs";
import type { Run } from "~/api/types";
import { value } from "~/format/number";
import { between, duration } from "~/format/time";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import type { Column } from "~/table/Table";

export const label = (run: { name: string; id: string }): string => run.name || run.id.slice(0, 8);

const fixed: Column<Run>[] = [
  { key: "name", label: "Name", width: 190, cell: (run) => label(run), show: (run) => <Link className="name" to={`/p/${seg(run.project)}/runs/${run.id}` as "/home"}>{label(run)}</Link> },
  { key: "state", label: "State", width: 110, cell: (run) => runState(run.status), show: (run) => <State state={runState(run.status)} /> },
  { key: "created", label: "Created", width: 90, numeric: true, cell: (run) => Date.parse(run.created_at), show: (run) => <Ago at={run.created_at} /> },
  { key: "duration", label: "Duration", width: 92, numeric: true, cell: (run) => between(run.created_at, run.ended_at), show: (run) => duration(between(run.created_at, run.ended_at)) },
  { key: "user", label: "User", width: 84, cell: (run) => run.user },
  { key: "experiment", label: "Experiment", width: 130, optional: true, cell: (run) => run.experiment },
  { key: "id", label: "Id", width: 260, optional: true, cell: (run) => run.id, show: (run) => <code>{run.id}</code> },
];

interface Seen {
  params: Map<string, { count: number; values: Set<string> }>;
  metrics: Map<string, number>;
  tags: Set<string>;
}

function seen(runs: readonly Run[]): Seen {
  const found: Seen = { params: new Map(), metrics: new Map(), tags: new Set() };
  for (const [i, run] of runs.entries()) {
    // What the newest runs have is what somebody looks at now.
    const weight = i < 20 ? 20 : 1;
    for (const [name, text] of Object.entries(run.params)) {
      const entry = found.params.get(name) ?? { count: 0, values: new Set<string>() };
      entry.count += weight;
      if (entry.values.size < 3) entry.values.add(text);
      found.params.set(name, entry);
    }
    for (const name of Object.keys(run.metrics)) found.metrics.set(name, (found.metrics.get(name) ?? 0) + weight);
    for (const name of Object.keys(run.tags)) if (!/^(mlflow|narf)\./.test(name)) found.tags.add(name);
  }
  return found;
}

const numeric = (text: string): number | string => (text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);

const shown = (text: string | undefined) => (text === undefined ? "–" : text.length > 8 && typeof numeric(text) === "number" ? <span title={text}>{value(Number(text))}</span> : text);

/** Names that tell runs apart: where several have the same, with the parameters in which they differ. */
export function told(runs: readonly { id: string; name: string; params: Record<string, string> }[]): Map<string, string> {
  const times = new Map<string, number>();
  for (const run of runs) times.set(label(run), (times.get(label(run)) ?? 0) + 1);
  const varying = [...new Set(runs.flatMap((run) => Object.keys(run.params)))].filter((name) => new Set(runs.map((run) => run.params[name])).size > 1).sort().slice(0, 3);
  return new Map(
    runs.map((run) => {
      const name = label(run);
      if ((times.get(name) ?? 0) < 2) return [run.id, name];
      const values = varying.map((each) => `${each}=${run.params[each] ?? "–"}`).join(" ");
      return [run.id, values ? `${name} ${values}` : `${name} ${run.id.slice(0, 6)}`];
    }),
  );
}

/** Shown at first: the metrics that most runs have, and the parameters in which they differ. */
export function columnsOf(runs: readonly Run[]): Column<Run>[] {
  const { params, metrics, tags } = seen(runs);
  const favourites = new Set([...metrics].filter(([name]) => !/^system[/_]|(^|[/_])(epoch|step)$/.test(name)).sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).slice(0, 4).map(([name]) => name));
  const different = new Set([...params].filter(([, each]) => each.values.size > 1).sort((a, b) => b[1].count - a[1].count || a[0].localeCompare(b[0])).slice(0, 3).map(([name]) => name));
  return [
    ...fixed,
    ...[...metrics.keys()].sort().map((name): Column<Run> => ({
      key: name, label: name, group: "Metrics", width: Math.min(170, Math.max(96, name.length * 7.4 + 26)), numeric: true, optional: !favourites.has(name),
      cell: (run) => number(run.metrics[name]), show: (run) => value(number(run.metrics[name]), 4),
    })),
    ...[...params.keys()].sort().map((name): Column<Run> => ({
      key: `params.${name}`, label: name, group: "Parameters", width: Math.min(170, Math.max(90, name.length * 7.4 + 26)), numeric: [...(params.get(name)?.values ?? [])].every((text) => typeof numeric(text) === "number"), optional: !different.has(name),
      cell: (run) => (run.params[name] === undefined ? null : numeric(run.params[name])), show: (run) => shown(run.params[name]),
    })),
    ...[...tags].sort().map((name): Column<Run> => ({ key: `tags.${name}`, label: name, group: "Tags", width: 130, optional: true, cell: (run) => run.tags[name] })),
  ];
}
