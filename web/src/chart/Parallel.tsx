/** Parallel coordinates: one line a run or trial through an axis for each parameter, coloured by its result. Drag along an axis to keep only what passes there. */
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef, useState, type PointerEvent } from "react";
import { value as text } from "~/format/number";
import { axisOf, position, shade, type Axis } from "./axis";
import css from "./Parallel.module.css";

export interface ParallelLine {
  id: string;
  label: string;
  values: readonly (number | string | boolean | null | undefined)[];
  /** What colours it; the last axis usually. */
  result: number | null;
}

interface Props {
  axes: readonly { name: string; log?: boolean }[];
  lines: readonly ParallelLine[];
  height?: number;
  better?: "low" | "high";
  onOpen?: (id: string) => void;
}

const TOP = 40;
const BOTTOM = 18;

export function Parallel({ axes, lines, height = 300, better = "low", onOpen }: Props) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const frame = useRef<HTMLDivElement>(null);
  const scheme = useComputedColorScheme("light");
  const [width, setWidth] = useState(800);
  const [kept, setKept] = useState<Record<number, [number, number]>>({});
  const [near, setNear] = useState<number | null>(null);
  const drag = useRef<{ axis: number; from: number } | null>(null);
  useEffect(() => {
    const element = frame.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(element.clientWidth));
    observer.observe(element);
    return () => observer.disconnect();
  }, []);
  const scales = useMemo<Axis[]>(() => axes.map((axis, i) => axisOf(lines.map((line) => line.values[i]), axis.log ?? false)), [axes, lines]);
  const x = (i: number) => 46 + (axes.length > 1 ? (i * (width - 110)) / (axes.length - 1) : 0);
  const y = (share: number) => TOP + (1 - share) * (height - TOP - BOTTOM);
  const places = useMemo(() => lines.map((line) => line.values.map((each, i) => position(scales[i], each))), [lines, scales]);
  const passes = (i: number) => Object.entries(kept).every(([axis, [low, high]]) => {
    const share = places[i]?.[Number(axis)];
    return share !== null && share !== undefined && share >= low && share <= high;
  });
  const results = lines.map((line) => line.result).filter((each): each is number => each !== null && Number.isFinite(each));
  const [low, high] = [Math.min(...results), Math.max(...results)];

  useEffect(() => {
    const ctx = canvas.current?.getContext("2d");
    if (!ctx) return;
    const ratio = devicePixelRatio;
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    const draw = (i: number, strong: boolean) => {
      const own = places[i] ?? [];
      const result = lines[i]?.result ?? null;
      const share = result === null || !Number.isFinite(result) ? null : high > low ? (result - low) / (high - low) : 0.5;
      ctx.strokeStyle = shade(share === null ? null : better === "low" ? 1 - share : share, scheme);
      ctx.globalAlpha = strong ? 1 : passes(i) ? (lines.length > 200 ? 0.35 : 0.7) : 0.05;
      ctx.lineWidth = strong ? 2.5 : 1.2;
      ctx.beginPath();
      own.forEach((at, axis) => {
        if (at === null) return;
        if (axis === 0 || own[axis - 1] === null) ctx.moveTo(x(axis), y(at));
        else {
          const [x0, y0] = [x(axis - 1), y(own[axis - 1] ?? 0)];
          const middle = (x0 + x(axis)) / 2;
          ctx.bezierCurveTo(middle, y0, middle, y(at), x(axis), y(at));
        }
      });
      ctx.stroke();
    };
    lines.forEach((_, i) => draw(i, false));
    if (near !== null) draw(near, true);
  });

  const locate = (event: PointerEvent) => {
    const box = (event.currentTarget as HTMLElement).getBoundingClientRect();
    return { px: event.clientX - box.left, py: event.clientY - box.top };
  };
  const shareOf = (py: number) => Math.min(1, Math.max(0, 1 - (py - TOP) / (height - TOP - BOTTOM)));
  const onMove = (event: PointerEvent) => {
    const { px, py } = locate(event);
    if (drag.current) {
      const [a, b] = [drag.current.from, shareOf(py)];
      setKept((now) => ({ ...now, [drag.current?.axis ?? 0]: [Math.min(a, b), Math.max(a, b)] }));
      return;
    }
    let [best, distance] = [null as number | null, 8];
    const left = Math.max(0, Math.min(axes.length - 2, Math.floor(((px - 46) / (width - 110)) * (axes.length - 1))));
    const share = (px - x(left)) / (x(left + 1) - x(left) || 1);
    places.forEach((own, i) => {
      const [a, b] = [own[left], own[left + 1]];
      if (a === null || b === null || a === undefined || b === undefined || !passes(i)) return;
      const smooth = share * share * (3 - 2 * share);
      const away = Math.abs(y(a + (b - a) * smooth) - py);
      if (away < distance) [best, distance] = [i, away];
    });
    setNear(best);
  };
  const onDown = (event: PointerEvent) => {
    const { px, py } = locate(event);
    const axis = axes.findIndex((_, i) => Math.abs(x(i) - px) < 14);
    if (axis < 0) {
      if (near !== null) onOpen?.(lines[near]?.id ?? "");
      return;
    }
    drag.current = { axis, from: shareOf(py) };
    (event.currentTarget as HTMLElement).setPointerCapture(event.pointerId);
  };
  const onUp = (event: PointerEvent) => {
    if (drag.current && Math.abs(drag.current.from - shareOf(locate(event).py)) < 0.02) {
      const { axis } = drag.current;
      setKept((now) => Object.fromEntries(Object.entries(now).filter(([name]) => Number(name) !== axis)));
    }
    drag.current = null;
  };
  if (lines.length === 0 || axes.length < 2) return <p className="dim" style={{ padding: 14 }}>It takes at least two parameters and one result.</p>;
  const shownLine = near === null ? null : lines[near];
  return (
    <div ref={frame} className={css.frame} style={{ height }} role="img" aria-label={`Parallel coordinates of ${lines.length} lines over ${axes.map((axis) => axis.name).join(", ")}`}>
      <canvas ref={canvas} width={width * devicePixelRatio} height={height * devicePixelRatio} style={{ width, height }} />
      <div className={css.over} onPointerMove={onMove} onPointerDown={onDown} onPointerUp={onUp} onPointerLeave={() => setNear(null)}>
        {axes.map((axis, i) => (
          <div key={axis.name} className={css.axis} style={{ left: x(i), top: TOP, height: height - TOP - BOTTOM }}>
            <b title={axis.name}>{axis.name}</b>
            {(scales[i]?.ticks ?? []).map((tick) => <span key={tick.text} style={{ top: `${(1 - tick.at) * 100}%` }}>{tick.text}</span>)}
            {kept[i] && <i style={{ top: `${(1 - kept[i][1]) * 100}%`, height: `${(kept[i][1] - kept[i][0]) * 100}%` }} />}
          </div>
        ))}
      </div>
      {shownLine && <div className={css.tip}><b>{shownLine.label}</b> {axes.map((axis, i) => `${axis.name} ${typeof shownLine.values[i] === "number" ? text(shownLine.values[i]) : String(shownLine.values[i] ?? "–")}`).join(" · ")}</div>}
    </div>
  );
}
