/** Runs side by side: their curves over one another, what differs, and how parameters go with results. */
import { Button, Checkbox, Select, Tabs } from "@mantine/core";
import { useQueries, useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { Problem, seg } from "~/api/client";
import { compareQuery, number, runQuery, runState } from "~/api/runs";
import type { RunDetail } from "~/api/types";
import { Charts, type ChartSearch } from "~/chart/Charts";
import { color } from "~/chart/colors";
import { Parallel } from "~/chart/Parallel";
import { Scatter } from "~/chart/Scatter";
import { value } from "~/format/number";
import { ButtonLink } from "~/shell/ButtonLink";
import { Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Title } from "~/shell/Title";
import { label, told } from "./columns";
import grid from "~/shell/Grid.module.css";
import css from "./Compare.module.css";

export function Compare() {
  const { project } = useParams({ strict: false }) as { project: string };
  const search = useSearch({ strict: false }) as ChartSearch & { runs?: string; tab?: string };
  const navigate = useNavigate();
  const ids = useMemo(() => [...new Set((search.runs ?? "").split(",").filter(Boolean))].slice(0, 30), [search.runs]);
  const queries = useQueries({ queries: ids.map((id) => runQuery(id)) });
  const runs = queries.flatMap((query) => (query.data ? [query.data] : []));
  const failed = queries.find((query) => query.error && !(query.error instanceof Problem && query.error.status === 0));
  const set = (next: object) => void navigate({ search: { ...search, ...next } as never, replace: true } as never);
  const done = runs.length === ids.length;
  const names = told(runs);
  const charted = useMemo(() => runs.map((run, index) => ({ id: run.id, name: names.get(run.id) ?? label(run), index, start: Date.parse(run.created_at) / 1000 })), [done, ids.join()]); // eslint-disable-line react-hooks/exhaustive-deps -- only when another run is there
  const metrics = [...new Set(runs.flatMap((run) => Object.keys(run.metrics)))].sort();
  if (ids.length < 2)
    return <><Title>Compare</Title><Panel><Empty title="Choose what to compare" action={<ButtonLink to={`/p/${seg(project)}/runs`}>Pick runs</ButtonLink>}>Pick two or more runs in the table, then press Compare. The address of the comparison can be shared.</Empty></Panel></>;
  return (
    <>
      <Title note={`${ids.length} runs`} actions={<Button variant="default" onClick={() => void navigate({ to: `/p/${seg(project)}/runs` as never })}>Pick others</Button>}>Compare</Title>
      {failed?.error && <Panel><Failure error={failed.error} /></Panel>}
      <Tabs value={search.tab ?? "charts"} onChange={(tab) => set({ tab: tab === "charts" ? undefined : tab })} keepMounted={false}>
        <Tabs.List mb={12}>
          <Tabs.Tab value="charts">Charts</Tabs.Tab>
          <Tabs.Tab value="differences">Differences</Tabs.Tab>
          <Tabs.Tab value="parallel">Parallel coordinates</Tabs.Tab>
          <Tabs.Tab value="scatter">Scatter</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="charts">
          {!done ? <div aria-busy="true" style={{ height: 300 }} /> : metrics.length === 0 ? <Panel><Empty title="These runs have no metrics" /></Panel> : <Charts metrics={metrics} runs={charted} search={search} onSearch={set} />}
        </Tabs.Panel>
        <Tabs.Panel value="differences"><Differences ids={ids} project={project} /></Tabs.Panel>
        <Tabs.Panel value="parallel"><Relations runs={runs} metrics={metrics} project={project} kind="parallel" /></Tabs.Panel>
        <Tabs.Panel value="scatter"><Relations runs={runs} metrics={metrics} project={project} kind="scatter" /></Tabs.Panel>
      </Tabs>
    </>
  );
}

const SECTIONS = [["params", "Parameters"], ["metrics", "Metrics"], ["code", "Code"], ["environment", "Environment"], ["data", "Data"]] as const;

function Differences({ ids, project }: { ids: readonly string[]; project: string }) {
  const query = useQuery(compareQuery(ids.slice(0, 20)));
  const [mark, setMark] = useState(true);
  return (
    <Loaded query={query} height={400}>
      {(comparison) => (
        <div className={grid.stack}>
          <Panel flush title="What differs" actions={<Checkbox label="Mark the best of each metric" checked={mark} onChange={(event) => setMark(event.currentTarget.checked)} />}>
            <div className={css.scroll} tabIndex={0} role="region" aria-label="Differences">
              <table className={css.table}>
                <thead>
                  <tr><th />{comparison.runs.map((run, i) => <th key={run.id}><span className={css.head}><i style={{ background: color(i, "light") }} /><Link className="name" to={`/p/${seg(project)}/runs/${run.id}` as "/home"}>{label(run)}</Link></span><State state={runState(run.status)} /></th>)}</tr>
                </thead>
                {SECTIONS.map(([section, name]) => (
                  <tbody key={section}>
                    <tr className={css.section}><th scope="rowgroup">{name}</th><td colSpan={comparison.runs.length} className="dim">{comparison[section].length === 0 ? "nothing differs" : ""}{comparison.same[section] ? ` ${comparison.same[section]} the same` : ""}</td></tr>
                    {comparison[section].filter((row) => row.name !== "narf.arguments").map((row) => {
                      const numbers = row.values.map((each) => (section === "metrics" ? number(each as number | string | null) : null));
                      const finite = numbers.filter((each): each is number => each !== null && Number.isFinite(each));
                      const rate = /(^|[/_])(lr|learning_rate|epoch|step)/i.test(row.name);
                      const best = rate ? NaN : /acc|auc|f1|precision|recall|score|r2|throughput/i.test(row.name) ? Math.max(...finite) : Math.min(...finite);
                      return (
                        <tr key={row.name}>
                          <th scope="row">{row.name}</th>
                          {row.values.map((each, i) => <td key={i} data-best={(mark && finite.length > 1 && numbers[i] === best) || undefined} title={each === null ? undefined : String(each).slice(0, 500)}>{section === "metrics" ? value(numbers[i] ?? null, 6) : each === null ? "–" : String(each).slice(0, 200)}</td>)}
                        </tr>
                      );
                    })}
                  </tbody>
                ))}
              </table>
            </div>
          </Panel>
        </div>
      )}
    </Loaded>
  );
}

const numeric = (text: string | undefined): number | string | null => (text === undefined ? null : text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);

function Relations({ runs, metrics, project, kind }: { runs: readonly RunDetail[]; metrics: readonly string[]; project: string; kind: "parallel" | "scatter" }) {
  const navigate = useNavigate();
  const names = told(runs);
  const varying = [...new Set(runs.flatMap((run) => Object.keys(run.params)))].filter((name) => new Set(runs.map((run) => run.params[name])).size > 1).sort();
  const [chosenMetric, setMetric] = useState<string | null>(null);
  const [chosenParam, setParam] = useState<string | null>(null);
  const metric = chosenMetric ?? metrics.find((name) => /val.*loss/.test(name)) ?? metrics[0] ?? "";
  const param = chosenParam ?? varying[0] ?? "";
  const open = (id: string) => void navigate({ to: `/p/${seg(project)}/runs/${id}` as never });
  if (varying.length === 0 || !metric) return <Panel><Empty title="Nothing to relate">These runs do not differ in any parameter, or have no metric.</Empty></Panel>;
  const picker = (
    <>
      {kind === "scatter" && <Select aria-label="Parameter" data={varying} value={param} onChange={(next) => setParam(next)} w={180} searchable />}
      <Select aria-label="Metric" data={[...metrics]} value={metric} onChange={(next) => setMetric(next)} w={200} searchable />
    </>
  );
  const axes = [...varying.slice(0, 9), metric];
  return (
    <Panel title={kind === "parallel" ? "Parameters and result" : "One parameter and one metric"} actions={picker}>
      {kind === "parallel"
        ? <Parallel height={420} axes={axes.map((name) => ({ name }))} onOpen={open} lines={runs.map((run) => ({ id: run.id, label: names.get(run.id) ?? "", result: number(run.metrics[metric]), values: axes.map((name) => (name === metric ? number(run.metrics[metric]) : numeric(run.params[name]))) }))} />
        : <Scatter height={380} xLabel={param} yLabel={metric} onOpen={open} dots={runs.map((run) => ({ id: run.id, label: names.get(run.id) ?? "", x: numeric(run.params[param]), y: number(run.metrics[metric]) }))} />}
    </Panel>
  );
}
