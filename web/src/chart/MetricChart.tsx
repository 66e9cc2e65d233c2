/** One metric of one or many runs, in a panel: reads what it shows when it comes into sight. */
import { ActionIcon, Skeleton, Tooltip } from "@mantine/core";
import { IconArrowsMaximize, IconZoomReset } from "@tabler/icons-react";
import { useEffect, useMemo, useRef, useState } from "react";
import { Failure } from "~/shell/Panel";
import { find } from "./load";
import { Plot, type Line, type XAxis } from "./Plot";
import { useSeries } from "./useSeries";
import css from "./MetricChart.module.css";

export interface ChartRun {
  id: string;
  name: string;
  index: number; // of its colour
  start: number;
}

export interface ChartView {
  x: XAxis;
  log: boolean;
  robust: boolean;
  smoothing: number;
}

interface Props {
  metric: string;
  runs: readonly ChartRun[];
  view: ChartView;
  height?: number;
  hidden?: ReadonlySet<string>;
  highlight?: string | null;
  live?: boolean;
  onEnlarge?: (() => void) | undefined;
}

export function MetricChart({ metric, runs, view, height = 200, hidden, highlight = null, live = false, onEnlarge }: Props) {
  const [frame, seen] = useSeen();
  const [range, setRange] = useState<[number, number] | null>(null);
  useEffect(() => setRange(null), [view.x]);
  const ids = useMemo(() => runs.map((run) => run.id), [runs]);
  // Only steps can be asked for: a zoom over time shows what is there already, closer.
  const query = useSeries(metric, ids, view.x === "step" ? range : null, seen);
  const lines = useMemo<Line[]>(
    () => runs.map((run) => ({ id: run.id, label: run.name, index: run.index, start: run.start, series: find(query.data, run.id, metric) })).filter((line) => line.series.steps.length > 0),
    [runs, query.data, metric],
  );
  return (
    <figure className={css.chart} ref={frame} data-metric={metric} data-points={lines.reduce((sum, line) => sum + line.series.steps.length, 0)}>
      <figcaption className={css.head}>
        <span className={`truncate ${css.name}`} title={metric}>{metric}</span>
        {live && <span className={css.live}><i aria-hidden /> live</span>}
        <span className={css.tools}>
          {range && <Tooltip label="Show all"><ActionIcon size={22} aria-label={`Show all of ${metric}`} onClick={() => setRange(null)}><IconZoomReset size={14} /></ActionIcon></Tooltip>}
          {onEnlarge && <ActionIcon size={22} aria-label={`Enlarge ${metric}`} onClick={onEnlarge}><IconArrowsMaximize size={13} /></ActionIcon>}
        </span>
      </figcaption>
      <div style={{ height }}>
        {query.error && !query.data ? <Failure error={query.error} retry={() => void query.refetch()} />
          : query.data === undefined ? <Skeleton height={height - 8} radius={4} />
          : lines.length === 0 ? <p className={css.none}>No points yet.</p>
          : <Plot title={metric} lines={lines} height={height} x={view.x} log={view.log} robust={view.robust} smoothing={view.smoothing} range={range} onRange={setRange} syncKey={`${view.x}`} {...(hidden ? { hidden } : {})} highlight={highlight} />}
      </div>
    </figure>
  );
}

/** Whether something has come near the window yet. */
function useSeen(): [React.RefObject<HTMLElement | null>, boolean] {
  const ref = useRef<HTMLElement>(null);
  const [seen, setSeen] = useState(false);
  useEffect(() => {
    const element = ref.current;
    if (!element || seen) return;
    const observer = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && setSeen(true), { rootMargin: "200px" });
    observer.observe(element);
    return () => observer.disconnect();
  }, [seen]);
  return [ref, seen];
}
