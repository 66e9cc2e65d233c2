/** A wall of metric charts with one set of tools: what the axis is, how smooth, on which scale, which metrics. */
import { Checkbox, Modal, SegmentedControl, Slider, TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useMemo, useState } from "react";
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
  const common = { runs, view, hidden, onHide: hide, highlight, onHighlight: setHighlight, live };
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
      {sections.map(({ name, metrics: own }) => (
        <section key={name}>
          {sections.length > 1 && <div className={css.section}><h2>{name}</h2><span className="dim">{own.length}</span></div>}
          <div className={css.grid}>
            {own.map((metric) => <MetricChart key={metric} metric={metric} {...common} onEnlarge={() => setLarge(metric)} />)}
          </div>
        </section>
      ))}
      <Modal opened={large !== null} onClose={() => setLarge(null)} size="90vw" title={large} closeButtonProps={{ "aria-label": "Close" }}>
        {large !== null && <MetricChart metric={large} {...common} height={520} />}
      </Modal>
    </div>
  );
}

/** Metrics by what stands before their last slash; those without one first. */
export function sectioned(metrics: readonly string[]): { name: string; metrics: string[] }[] {
  const sections = new Map<string, string[]>();
  for (const metric of metrics) {
    const at = metric.lastIndexOf("/");
    const name = at > 0 ? metric.slice(0, at) : "Metrics";
    sections.set(name, [...(sections.get(name) ?? []), metric]);
  }
  return [...sections].sort(([a], [b]) => Number(b === "Metrics") - Number(a === "Metrics") || a.localeCompare(b)).map(([name, own]) => ({ name, metrics: own.sort() }));
}
