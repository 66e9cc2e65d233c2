/** One chart of lines over steps or time. uPlot gives axes, cursor and zoom; the series are painted here, each over its own
 * x values, so that ten runs with different steps need no joining. */
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { value } from "~/format/number";
import { duration } from "~/format/time";
import { whole, WHOLE } from "./axis";
import { color, dash } from "./colors";
import { extent, middle, nearest, smoothed, type Series } from "./series";
import css from "./Plot.module.css";

export type XAxis = "step" | "elapsed" | "clock";

export interface Line {
  id: string;
  label: string;
  index: number; // of its colour
  series: Series;
  /** Points that stand for themselves, without a line between them. */
  dots?: boolean;
  /** When the run began (seconds), for elapsed time. */
  start?: number;
}

interface Props {
  title: string;
  lines: readonly Line[];
  height?: number;
  x?: XAxis;
  /** What its steps are. */
  noun?: string;
  /** The values are counts. */
  counts?: boolean;
  log?: boolean;
  /** Leave the few extreme values out of the vertical range. */
  robust?: boolean;
  smoothing?: number;
  range?: readonly [number, number] | null;
  onRange?: (range: [number, number] | null) => void;
  syncKey?: string;
  hidden?: ReadonlySet<string>;
  highlight?: string | null;
  format?: (value: number) => string;
}

interface Painted {
  line: Line;
  xs: Float64Array;
  centre: Float64Array;
}

export function Plot({ title, lines, height = 220, x = "step", noun = "step", counts = false, log = false, robust = false, smoothing = 0, range = null, onRange, syncKey, hidden, highlight, format = value }: Props) {
  const scheme = useComputedColorScheme("light");
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const [cursor, setCursor] = useState<{ left: number; x: number; width: number } | null>(null);

  const painted = useMemo<Painted[]>(
    () =>
      lines.map((line) => ({
        line,
        xs: x === "step" ? line.series.steps : x === "clock" ? line.series.times : line.series.times.map((time) => time - (line.start ?? line.series.times[0] ?? 0)),
        centre: smoothed(line.series, smoothing),
      })),
    [lines, x, smoothing],
  );
  // What the painter reads at each frame, so that new points need no new chart.
  const state = useRef({ painted, log, robust, smoothing, hidden, highlight, range, onRange, format });
  state.current = { painted, log, robust, smoothing, hidden, highlight, range, onRange, format };

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const style = getComputedStyle(element);
    const [ink, line] = [style.getPropertyValue("--dim"), style.getPropertyValue("--line")];
    const axis: uPlot.Axis = {
      stroke: ink, font: '11px "Inter Variable", sans-serif', grid: { stroke: line, width: 1 }, ticks: { show: false }, border: { show: false },
    };
    const options: uPlot.Options = {
      width: Math.max(element.clientWidth, 100),
      height,
      padding: [8, 18, 0, 0],
      legend: { show: false },
      scales: {
        x: { time: x === "clock", range: (_, low, high) => (state.current.range ? [state.current.range[0], state.current.range[1]] : low === high ? [low - 0.5, high + 0.5] : [low, high]) },
        y: { distr: log ? 3 : 1, range: (_, low, high) => yRange(low, high, state.current.log) },
      },
      axes: [
        { ...axis, size: 26, gap: 6, ...(x === "step" ? { incrs: WHOLE } : {}), values: (_: uPlot, splits: number[]) => splits.map((each) => (x === "elapsed" ? duration(each) : x === "clock" ? clock(each, splits) : whole(each))) },
        { ...axis, size: 52, gap: 6, ...(counts ? { incrs: WHOLE } : {}), values: (_, splits) => splits.map((each) => (each === null ? "" : state.current.format(each))) },
      ],
      series: [{}, { show: true, stroke: "transparent", paths: () => null, points: { show: false } }],
      cursor: {
        y: false,
        points: { show: false },
        drag: { x: Boolean(onRange), y: false, setScale: false },
        ...(syncKey ? { sync: { key: syncKey, scales: ["x", null] } } : {}),
        bind: { dblclick: () => () => (state.current.onRange?.(null), null) },
      },
      hooks: {
        draw: [(self) => paint(self, state.current, scheme)],
        setCursor: [
          (self) => {
            const left = self.cursor.left ?? -1;
            setCursor(left < 0 ? null : { left: left + self.over.offsetLeft, x: self.posToVal(left, "x"), width: element.clientWidth });
          },
        ],
        setSelect: [
          (self) => {
            if (self.select.width < 4) return;
            const from = self.posToVal(self.select.left, "x");
            const to = self.posToVal(self.select.left + self.select.width, "x");
            self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            state.current.onRange?.([from, to]);
          },
        ],
      },
    };
    const made = new uPlot(options, extentOf(state.current), element);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: Math.max(element.clientWidth, 100), height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
    // onRange is read through `state`; whether there is one does not change in a chart's life.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [height, x, log, scheme, syncKey]);

  useEffect(() => {
    plot.current?.setData(extentOf(state.current));
  }, [painted, hidden, highlight, range, robust]);

  const shown = painted.filter(({ line }) => !hidden?.has(line.id));
  const spoken = shown.slice(0, 5).map(({ line, centre }) => `${line.label} ${format(centre.at(-1) ?? NaN)}`).join(", ");
  return (
    <div className={css.frame}>
      <div ref={box} role="img" aria-label={`${title}. ${shown.length} lines. Last values: ${spoken || "none yet"}`} className={css.plot} />
      {cursor && shown.length > 0 && <Values cursor={cursor} painted={shown} x={x} noun={noun} scheme={scheme} format={format} highlight={highlight ?? null} />}
    </div>
  );
}

function Values({ cursor, painted, x, noun, scheme, format, highlight }: {
  cursor: { left: number; x: number; width: number }; painted: Painted[]; x: XAxis; noun: string; scheme: "light" | "dark"; format: (value: number) => string; highlight: string | null;
}) {
  const rows = painted
    .map(({ line, xs, centre }) => ({ line, at: nearest(xs, cursor.x), centre }))
    .filter(({ at }) => at >= 0)
    .map(({ line, at, centre }) => ({ line, value: centre[at] ?? NaN }))
    .sort((a, b) => b.value - a.value);
  const [step = 0] = painted.map(({ xs }) => xs[nearest(xs, cursor.x)] ?? NaN).filter(Number.isFinite).sort((a, b) => Math.abs(a - cursor.x) - Math.abs(b - cursor.x));
  const right = cursor.left > cursor.width / 2;
  const head = x === "step" ? `${noun} ${whole(step)}` : x === "elapsed" ? duration(cursor.x) : new Date(cursor.x * 1000).toLocaleTimeString();
  return (
    <div className={css.values} style={right ? { right: cursor.width - cursor.left + 12 } : { left: cursor.left + 12 }}>
      <div className={css.head}>{head}</div>
      {rows.slice(0, 10).map(({ line, value: each }) => (
        <div key={line.id} className={css.value} data-strong={line.id === highlight || undefined}>
          <i style={{ background: color(line.index, scheme) }} />
          <span className="truncate">{line.label}</span>
          <b>{format(each)}</b>
        </div>
      ))}
      {rows.length > 10 && <div className={css.head}>and {rows.length - 10} more</div>}
    </div>
  );
}

/** A time of day; with the day where the axis is longer than one, with seconds where its ticks are closer than a minute. */
function clock(seconds: number, splits: readonly number[]): string {
  const gap = (splits[1] ?? seconds + 60) - (splits[0] ?? seconds);
  const day = (splits.at(-1) ?? 0) - (splits[0] ?? 0) > 86_400;
  return new Date(seconds * 1000).toLocaleString(undefined, { hour: "2-digit", minute: "2-digit", hour12: false, ...(gap < 60 ? { second: "2-digit" } : {}), ...(day ? { day: "numeric", month: "short" } : {}) });
}

function yRange(low: number | null, high: number | null, log: boolean): [number, number] {
  if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return log ? [0.1, 10] : [0, 1];
  if (log) {
    const [bottom, top] = [Math.max(low, 1e-300), Math.max(high, 1e-300)];
    return bottom === top ? [bottom / 2, top * 2] : [bottom / 1.1, top * 1.1];
  }
  if (low === high) return [low - (Math.abs(low) * 0.1 || 0.5), high + (Math.abs(high) * 0.1 || 0.5)];
  const air = (high - low) * 0.06;
  return [low >= 0 && low - air < 0 ? 0 : low - air, high + air];
}

/** Two invisible points that span everything shown, from which uPlot takes its scales. */
function extentOf({ painted, hidden, range, log, robust }: { painted: Painted[]; hidden?: ReadonlySet<string> | undefined; range: readonly [number, number] | null; log: boolean; robust: boolean }): uPlot.AlignedData {
  const shown = painted.filter(({ line }) => !hidden?.has(line.id));
  const xs = extent(shown.map((each) => each.xs));
  if (!xs) return [[0, 1], [null, null]] as unknown as uPlot.AlignedData;
  const inside = shown.flatMap(({ line: { series }, xs: own }) => {
    if (!range) return [series.min, series.max];
    const [from, to] = [Math.max(0, nearest(own, range[0]) - 1), nearest(own, range[1]) + 2];
    return [series.min.subarray(from, to), series.max.subarray(from, to)];
  });
  const ys = (robust ? middle(inside, log) : extent(inside, log)) ?? [log ? 0.1 : 0, 1];
  const [left, right] = range ?? xs;
  return [[left, left === right ? left + 1 : right], ys];
}

function paint(u: uPlot, { painted, smoothing, hidden, highlight }: { painted: Painted[]; smoothing: number; hidden?: ReadonlySet<string> | undefined; highlight?: string | null | undefined }, scheme: "light" | "dark"): void {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.lineJoin = "round";
  const shown = painted.filter(({ line }) => !hidden?.has(line.id));
  for (const { line, xs, centre } of [...shown].sort((a, b) => Number(a.line.id === highlight) - Number(b.line.id === highlight))) {
    const hue = color(line.index, scheme);
    const X = Float64Array.from(xs, (each) => u.valToPos(each, "x", true));
    const Y = (values: Float64Array) => Float64Array.from(values, (each) => u.valToPos(each, "y", true));
    const faded = highlight !== null && highlight !== undefined && highlight !== line.id;
    ctx.fillStyle = ctx.strokeStyle = hue;
    if (line.series.thinned && xs.length > 1) {
      ctx.globalAlpha = faded ? 0.06 : 0.22;
      band(ctx, X, Y(line.series.min), Y(line.series.max));
    } else if (smoothing > 0) {
      ctx.globalAlpha = faded ? 0.08 : 0.25;
      ctx.lineWidth = devicePixelRatio;
      stroke(ctx, X, Y(line.series.max));
    }
    ctx.globalAlpha = faded ? 0.25 : 1;
    if (line.dots) {
      const ys = Y(centre);
      X.forEach((px, i) => {
        ctx.beginPath();
        ctx.arc(px, ys[i] ?? 0, 3 * devicePixelRatio, 0, 7);
        ctx.fill();
      });
      continue;
    }
    ctx.lineWidth = (line.id === highlight ? 2.25 : 1.5) * devicePixelRatio;
    ctx.setLineDash(dash(line.index).map((each) => each * devicePixelRatio));
    stroke(ctx, X, Y(centre));
    ctx.setLineDash([]);
    // A point with a gap on both sides has no line to be seen by.
    const ys = Y(centre);
    ys.forEach((y, i) => {
      if (!Number.isFinite(y) || Number.isFinite(ys[i - 1]) || Number.isFinite(ys[i + 1])) return;
      ctx.beginPath();
      ctx.arc(X[i] ?? 0, y, 2.5 * devicePixelRatio, 0, 7);
      ctx.fill();
    });
  }
  ctx.restore();
}

function stroke(ctx: CanvasRenderingContext2D, X: Float64Array, Y: Float64Array): void {
  ctx.beginPath();
  let down = false;
  for (let i = 0; i < X.length; i++) {
    const y = Y[i] ?? NaN;
    if (!Number.isFinite(y)) down = false; // a gap where there is no number
    else if (down) ctx.lineTo(X[i] ?? 0, y);
    else {
      ctx.moveTo(X[i] ?? 0, y);
      down = true;
    }
  }
  ctx.stroke();
}

function band(ctx: CanvasRenderingContext2D, X: Float64Array, low: Float64Array, high: Float64Array): void {
  ctx.beginPath();
  for (let i = 0; i < X.length; i++) if (Number.isFinite(high[i])) ctx.lineTo(X[i] ?? 0, high[i] ?? 0);
  for (let i = X.length - 1; i >= 0; i--) if (Number.isFinite(low[i])) ctx.lineTo(X[i] ?? 0, low[i] ?? 0);
  ctx.fill();
}
