/** A wall of metric charts with one set of tools: what the axis is, how smooth, on which scale, which metrics. */
import { Checkbox, Modal, SegmentedControl, Slider, TextInput, useComputedColorScheme } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useMemo, useState } from "react";
import { color } from "./colors";
import { MetricChart, type ChartRun, type ChartView } from "./MetricChart";
import type { XAxis } from "./Plot";
import css from "./MetricChart.module.css";

export interface ChartSearch {
  x?: string | undefined;
  log?: string | undefined;
  outliers?: string | undefined;
  smooth?: string | undefined;
  metric?: string | undefined;
}

export function Charts({ metrics, runs, search, onSearch, live = false }: { metrics: readonly string[]; runs: readonly ChartRun[]; search: ChartSearch; onSearch: (search: ChartSearch) => void; live?: boolean }) {
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const [highlight, setHighlight] = useState<string | null>(null);
  const [large, setLarge] = useState<string | null>(null);
  const [smoothing, setSmoothing] = useState(Number(search.smooth ?? 0) || 0);
  const view = useMemo<ChartView>(() => ({ x: (["step", "elapsed", "clock"].includes(search.x ?? "") ? search.x : "step") as XAxis, log: search.log === "1", robust: search.outliers === "0", smoothing }), [search.x, search.log, search.outliers, smoothing]);
  const hide = (id: string) => setHidden((now) => {
    const next = new Set(now);
    if (!next.delete(id)) next.add(id);
    return next;
  });
  const wanted = search.metric?.toLowerCase() ?? "";
  const shown = metrics.filter((metric) => metric.toLowerCase().includes(wanted));
  const sections = useMemo(() => sectioned(shown), [shown]);
  const common = { runs, view, hidden, highlight, live };
  return (
    <div>
      <div className={css.bar}>
        {metrics.length > 4 && <TextInput aria-label="Find a metric" placeholder="Find a metric" leftSection={<IconSearch size={13} />} value={search.metric ?? ""} onChange={(event) => onSearch({ ...search, metric: event.currentTarget.value || undefined })} w={200} />}
        <SegmentedControl aria-label="Horizontal axis" value={view.x} onChange={(x) => onSearch({ ...search, x: x === "step" ? undefined : x })} data={[{ value: "step", label: "Step" }, { value: "elapsed", label: "Elapsed" }, { value: "clock", label: "Clock" }]} />
        <label>
          Smoothing
          <Slider w={120} size="sm" min={0} max={0.99} step={0.01} value={smoothing} onChange={setSmoothing} onChangeEnd={(value) => onSearch({ ...search, smooth: value ? String(value) : undefined })} label={(value) => value.toFixed(2)} thumbLabel="Smoothing" />
        </label>
        <Checkbox label="Log scale" checked={view.log} onChange={(event) => onSearch({ ...search, log: event.currentTarget.checked ? "1" : undefined })} />
        <Checkbox label="Ignore outliers" checked={view.robust} onChange={(event) => onSearch({ ...search, outliers: event.currentTarget.checked ? "0" : undefined })} />
        <span className="dim" style={{ fontSize: 12 }}>Drag to zoom, double-click to see all</span>
      </div>
      {runs.length > 1 && <Legend runs={runs} hidden={hidden} onHide={hide} onHighlight={setHighlight} />}
      {sections.map(({ name, metrics: own }) => (
        <section key={name}>
          {sections.length > 1 && <div className={css.section}><h2>{name}</h2><span className="dim">{own.length}</span></div>}
          <div className={css.grid}>
            {own.map((metric) => <MetricChart key={metric} metric={metric} {...common} onEnlarge={() => setLarge(metric)} />)}
          </div>
        </section>
      ))}
      <Modal opened={large !== null} onClose={() => setLarge(null)} size="90vw" title={large} closeButtonProps={{ "aria-label": "Close" }}>
        {large !== null && <><MetricChart metric={large} {...common} height={520} />{runs.length > 1 && <Legend runs={runs} hidden={hidden} onHide={hide} onHighlight={setHighlight} />}</>}
      </Modal>
    </div>
  );
}

const FEW = 9;

/** Metrics by what stands before their last slash, those without one first; a few of them stand together. */
export function sectioned(metrics: readonly string[]): { name: string; metrics: string[] }[] {
  if (metrics.length <= FEW) return metrics.length ? [{ name: "Metrics", metrics: [...metrics].sort(byInterest) }] : [];
  const sections = new Map<string, string[]>();
  for (const metric of metrics) {
    const at = metric.lastIndexOf("/");
    const name = at > 0 ? metric.slice(0, at) : "Metrics";
    sections.set(name, [...(sections.get(name) ?? []), metric]);
  }
  return [...sections].sort(([a], [b]) => Number(b === "Metrics") - Number(a === "Metrics") || a.localeCompare(b)).map(([name, own]) => ({ name, metrics: own.sort(byInterest) }));
}

/** What people look at first comes first: losses and scores before rates and counters. */
export function byInterest(a: string, b: string): number {
  const rank = (name: string) => (/loss|error|perplexity/i.test(name) ? 0 : /acc|auc|f1|score|precision|recall|iou|bleu|map/i.test(name) ? 1 : /(^|[/_])(lr|learning_rate|epoch|step|time|throughput)/i.test(name) ? 3 : 2);
  return rank(a) - rank(b) || a.localeCompare(b);
}

const NONE: ReadonlySet<string> = new Set();
const nothing = () => undefined;

/** One legend for the whole wall: press a name to hide its line, rest on it to see it alone. */
export function Legend({ runs, hidden = NONE, onHide, onHighlight = nothing }: { runs: readonly ChartRun[]; hidden?: ReadonlySet<string>; onHide?: (id: string) => void; onHighlight?: (id: string | null) => void }) {
  const scheme = useComputedColorScheme("light");
  return (
    <div className={css.legend} role="group" aria-label="Runs">
      {runs.slice(0, 30).map((run) => !onHide ? <span key={run.id} title={run.name}><i style={{ background: color(run.index, scheme) }} /><span className="truncate">{run.name}</span></span> : (
        <button
          key={run.id} type="button" aria-pressed={!hidden.has(run.id)} title={run.name} onClick={() => onHide(run.id)} data-hidden={hidden.has(run.id) || undefined}
          onMouseEnter={() => onHighlight(run.id)} onMouseLeave={() => onHighlight(null)} onFocus={() => onHighlight(run.id)} onBlur={() => onHighlight(null)}
        >
          <i style={{ background: color(run.index, scheme) }} />
          <span className="truncate">{run.name}</span>
        </button>
      ))}
    </div>
  );
}
