/** One dataset: its versions, what is in them, how two of them differ, and where it goes. */
import { Badge, Select, Tabs, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useState } from "react";
import { seg } from "~/api/client";
import { datasetQuery, differenceQuery, graphQuery, previewQuery, versionQuery, versionsQuery, type ColumnStatistics, type DataVersion } from "~/api/data";
import { bytes, count, percent, plural, value } from "~/format/number";
import { Histogram } from "~/chart/Histogram";
import { useRefresh } from "~/live/useLive";
import { Command, Empty, Loaded, Panel } from "~/shell/Panel";
import { Ago } from "~/shell/Time";
import { Facts, Title } from "~/shell/Title";
import { LineageGraph } from "./LineageGraph";
import grid from "~/shell/Grid.module.css";
import css from "./Dataset.module.css";

export function DatasetPage() {
  const { project, name, version } = useParams({ strict: false }) as { project: string; name: string; version?: string };
  const dataset = useQuery(datasetQuery(project, name));
  const versions = useQuery(versionsQuery(project, name));
  useRefresh(`projects/${project}/datasets`, ["dataset", project, name]);
  const navigate = useNavigate();
  const search = useSearch({ strict: false }) as { tab?: string; before?: string };
  const shown = version ?? versions.data?.[0]?.version;
  const tab = search.tab ?? "statistics";
  const set = (next: object) => void navigate({ search: { ...search, ...next } as never, replace: true } as never);
  return (
    <>
      <Title
        note={dataset.data?.description || (versions.data ? plural(versions.data.length, "version") : "")}
        actions={<Select aria-label="Version" w={240} value={shown ?? null} data={(versions.data ?? []).map((each) => ({ value: each.version, label: `${each.version}${each.tags.length ? ` (${each.tags.join(", ")})` : ""}` }))} onChange={(next) => void (next && navigate({ to: `/p/${seg(project)}/data/${seg(name)}/${seg(next)}` as never, search: search as never }))} />}
      >{name}{shown && <span className="dim"> {shown}</span>}</Title>
      {versions.error && <Loaded query={versions}>{() => null}</Loaded>}
      {shown && (
        <Tabs value={tab} onChange={(next) => set({ tab: next === "statistics" ? undefined : next })} keepMounted={false}>
          <Tabs.List mb={12}>
            <Tabs.Tab value="statistics">Columns</Tabs.Tab>
            <Tabs.Tab value="preview">Preview</Tabs.Tab>
            <Tabs.Tab value="diff">Difference</Tabs.Tab>
            <Tabs.Tab value="lineage">Lineage</Tabs.Tab>
            <Tabs.Tab value="about">About</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="statistics"><Columns project={project} name={name} version={shown} /></Tabs.Panel>
          <Tabs.Panel value="preview"><Rows project={project} name={name} version={shown} /></Tabs.Panel>
          <Tabs.Panel value="diff"><Changes project={project} name={name} version={shown} versions={(versions.data ?? []).map((each) => each.version)} before={search.before} onBefore={(before) => set({ before })} /></Tabs.Panel>
          <Tabs.Panel value="lineage"><Origins project={project} name={name} version={shown} /></Tabs.Panel>
          <Tabs.Panel value="about"><About project={project} name={name} version={shown} /></Tabs.Panel>
        </Tabs>
      )}
    </>
  );
}

interface Place {
  project: string;
  name: string;
  version: string;
}

function Columns({ project, name, version }: Place) {
  const query = useQuery(versionQuery(project, name, version));
  const [text, setText] = useState("");
  return (
    <Loaded query={query} height={400}>
      {(data) => data.columns.length === 0 ? <Files data={data} /> : (
        <Panel title={plural(data.columns.length, "column")} note={`${data.rows === null ? "" : `${count(data.rows)} rows · `}${bytes(data.size_bytes)}`} flush actions={<TextInput aria-label="Find a column" placeholder="Find a column" value={text} onChange={(event) => setText(event.currentTarget.value)} w={180} />}>
          <div className={css.scroll} tabIndex={0} role="region" aria-label="Columns">
            <table className={css.table}>
              <thead><tr><th>Column</th><th>Type</th><th>Distribution</th><th className="num">Missing</th><th className="num">Distinct</th><th className="num">Least</th><th className="num">Mean</th><th className="num">Greatest</th><th className="num">Deviation</th></tr></thead>
              <tbody>
                {data.columns.filter((column) => column.name.toLowerCase().includes(text.toLowerCase())).slice(0, 500).map((column) => {
                  const own: ColumnStatistics = data.statistics.columns?.[column.name] ?? {};
                  return (
                    <tr key={column.name}>
                      <th scope="row"><code>{column.name}</code></th>
                      <td className="dim">{column.type}</td>
                      <td>{own.histogram ? <Histogram edges={own.histogram.edges} counts={own.histogram.counts} label={column.name} /> : <Top own={own} />}</td>
                      <td className="num">{own.nulls ? percent(own.nulls / Math.max(1, own.count ?? 1), 1) : "0"}</td>
                      <td className="num">{own.distinct === null || own.distinct === undefined ? "–" : count(own.distinct)}</td>
                      <td className="num">{cell(own.min)}</td><td className="num">{value(own.mean, 4)}</td><td className="num">{cell(own.max)}</td><td className="num">{value(own.std, 4)}</td>
                    </tr>
                  );
                })}
              </tbody>
            </table>
          </div>
        </Panel>
      )}
    </Loaded>
  );
}

const cell = (each: unknown): string => (typeof each === "number" ? value(each, 5) : each === null || each === undefined ? "–" : String(each).slice(0, 40));

function Top({ own }: { own: ColumnStatistics }) {
  if (!own.top?.length) return <span className="dim">–</span>;
  return <span className={css.top}>{own.top.slice(0, 4).map(([each, times], i) => <span key={i} title={`${times} times`}>{String(each).slice(0, 18)} <i>{count(times)}</i></span>)}</span>;
}

function Files({ data }: { data: DataVersion }) {
  return (
    <Panel title={plural(data.files, "file")} note={bytes(data.size_bytes)}>
      <Facts facts={(data.statistics.files ?? []).map((each) => [each.suffix || "no ending", `${plural(each.count, "file")}, ${bytes(each.size_bytes)}`] as const)} />
    </Panel>
  );
}

function Rows({ project, name, version }: Place) {
  const query = useQuery(previewQuery(project, name, version));
  return (
    <Loaded query={query} height={400}>
      {(preview) => preview.columns.length === 0 ? (
        <Panel flush><ul className={css.files}>{preview.files.map((file) => <li key={file.path}><code>{file.path}</code><span className="dim">{bytes(file.size)}</span></li>)}</ul></Panel>
      ) : (
        <Panel flush title={`The first ${preview.rows.length}`} note={preview.total_rows === null ? "" : `of ${count(preview.total_rows)} rows`}>
          <div className={css.scroll} tabIndex={0} role="region" aria-label="Preview">
            <table className={css.sheet}>
              <thead><tr><th className="num">#</th>{preview.columns.map((column) => <th key={column.name} className={/int|double|float|decimal/.test(column.type) ? "num" : undefined}>{column.name}<span>{column.type}</span></th>)}</tr></thead>
              <tbody>{preview.rows.map((row, i) => <tr key={i}><td className="num dim">{i + 1}</td>{row.map((each, j) => <td key={j} className={typeof each === "number" ? "num" : undefined}>{each === null ? <i className="dim">null</i> : String(each).slice(0, 120)}</td>)}</tr>)}</tbody>
            </table>
          </div>
        </Panel>
      )}
    </Loaded>
  );
}

function Changes({ project, name, version, versions, before, onBefore }: Place & { versions: string[]; before: string | undefined; onBefore: (before: string | undefined) => void }) {
  const others = versions.filter((each) => each !== version);
  const against = before && others.includes(before) ? before : (versions[versions.indexOf(version) + 1] ?? others[0]);
  const query = useQuery({ ...differenceQuery(project, name, against ?? version, version), enabled: Boolean(against) });
  if (!against) return <Panel><Empty title="There is only one version" command={`narf data add ${name} ./folder --project ${project}`}>A second one can be compared with it.</Empty></Panel>;
  return (
    <Panel title={`${against} → ${version}`} actions={<Select aria-label="Compare with" data={others} value={against} onChange={(next) => onBefore(next ?? undefined)} w={140} />}>
      <Loaded query={query} height={240}>
        {(difference) => (
          <div className={css.sections}>
            <FileChanges files={difference.files as FilesChanged} />
            <section>
              <h3>Columns</h3>
              <p className={nothing(difference.columns) ? "dim" : undefined}>{nothing(difference.columns) ? "The same." : Object.entries(difference.columns).filter(([, each]) => Array.isArray(each) && each.length > 0).map(([kind, each]) => `${kind}: ${(each as unknown[]).map((column) => (typeof column === "object" && column !== null && "name" in column ? String(column.name) : String(column))).join(", ")}`).join("; ")}</p>
            </section>
            <RowChanges rows={difference.rows as RowsChanged | null} />
            <StatisticChanges statistics={difference.statistics as Record<string, Record<string, [unknown, unknown]>>} />
          </div>
        )}
      </Loaded>
    </Panel>
  );
}

const nothing = (section: Record<string, unknown>): boolean => Object.values(section).every((each) => !Array.isArray(each) || each.length === 0);

interface FilesChanged {
  counts?: Record<string, number>;
  added?: { path: string }[];
  removed?: { path: string }[];
  changed?: { path: string; before?: { size: number }; after?: { size: number } }[];
}

function FileChanges({ files }: { files: FilesChanged }) {
  const lines = [
    ...(files.added ?? []).map((each) => ["+", each.path, ""] as const),
    ...(files.removed ?? []).map((each) => ["−", each.path, ""] as const),
    ...(files.changed ?? []).map((each) => ["~", each.path, `${bytes(each.before?.size)} → ${bytes(each.after?.size)}`] as const),
  ];
  return (
    <section>
      <h3>Files</h3>
      <p className="dim">{Object.entries(files.counts ?? {}).map(([kind, number]) => `${count(number)} ${kind}`).join(", ")}</p>
      <ul className={css.changes}>{lines.slice(0, 200).map(([sign, path, sizes]) => <li key={path} data-sign={sign}><b>{sign}</b> <code>{path}</code> <span className="dim">{sizes}</span></li>)}</ul>
    </section>
  );
}

interface RowsChanged {
  compared_columns?: string[];
  added?: number;
  removed?: number;
  changed?: number;
  added_examples?: unknown[][];
  removed_examples?: unknown[][];
}

function RowChanges({ rows }: { rows: RowsChanged | null }) {
  if (!rows) return null;
  const examples = [...(rows.added_examples ?? []).map((row) => ["+", row] as const), ...(rows.removed_examples ?? []).map((row) => ["−", row] as const)];
  return (
    <section>
      <h3>Rows</h3>
      <p>{[["added", rows.added], ["removed", rows.removed], ["changed", rows.changed]].filter(([, number]) => number !== undefined).map(([kind, number]) => `${count(Number(number))} ${kind}`).join(", ")}</p>
      {examples.length > 0 && (
        <div className={css.scroll} tabIndex={0} role="region" aria-label="Examples of rows that differ">
          <table className={css.sheet}>
            <thead><tr><th aria-label="Added or removed" />{(rows.compared_columns ?? []).map((name) => <th key={name}>{name}</th>)}</tr></thead>
            <tbody>{examples.map(([sign, row], i) => <tr key={i} data-sign={sign}><td>{sign}</td>{row.map((each, j) => <td key={j} className={typeof each === "number" ? "num" : undefined}>{String(each)}</td>)}</tr>)}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function StatisticChanges({ statistics }: { statistics: Record<string, Record<string, [unknown, unknown]>> }) {
  const names = Object.keys(statistics);
  const measures = [...new Set(names.flatMap((name) => Object.keys(statistics[name] ?? {})))];
  return (
    <section>
      <h3>Statistics</h3>
      {names.length === 0 ? <p className="dim">The same.</p> : (
        <div className={css.scroll} tabIndex={0} role="region" aria-label="Statistics that differ">
          <table className={css.sheet}>
            <thead><tr><th>column</th>{measures.map((measure) => <th key={measure} className="num">{measure}</th>)}</tr></thead>
            <tbody>{names.map((name) => <tr key={name}><td>{name}</td>{measures.map((measure) => { const pair = statistics[name]?.[measure]; return <td key={measure} className="num">{pair ? `${cell(pair[0])} → ${cell(pair[1])}` : ""}</td>; })}</tr>)}</tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Origins({ project, name, version }: Place) {
  const query = useQuery(graphQuery(project, `${project}/${name}@${version}`));
  return <Panel title="From what it came, and what came of it"><Loaded query={query} height={200}>{(graph) => <LineageGraph graph={graph} project={project} centre={`dataset_version:${project}/${name}@${version}`} />}</Loaded></Panel>;
}

function About({ project, name, version }: Place) {
  const query = useQuery(versionQuery(project, name, version));
  return (
    <Loaded query={query} height={240}>
      {(data) => (
        <div className={grid.grid}>
          <Panel title="Version" className={grid.w6 ?? ""}>
            <Facts facts={[["Content", <code key="c">{data.id}</code>], ["Format", data.format], ["Files", count(data.files)], ["Rows", data.rows === null ? null : count(data.rows)], ["Size", bytes(data.size_bytes)], ["Tags", data.tags.map((tag) => <Badge key={tag} variant="light" tt="none" fw={500}>{tag}</Badge>)], ["Made by", data.created_by], ["Made", <Ago key="a" at={data.created_at} />], ...Object.entries(data.provenance).map(([key, each]) => [key, String(each)] as const)]} />
          </Panel>
          <Panel title="Use it" className={grid.w6 ?? ""}>
            <div className={css.use}><Command text={`narf run train.py --data ${name}@${version} --project ${project}`} /><Command text={`narf.dataset("${name}@${version}")`} /></div>
          </Panel>
          {data.checks.length > 0 && <Panel title="Checks" className={grid.w12 ?? ""}><Facts facts={data.checks.map((check, i) => [`${i + 1}`, <code key={i}>{JSON.stringify(check)}</code>] as const)} /></Panel>}
        </div>
      )}
    </Loaded>
  );
}
