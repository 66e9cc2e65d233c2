/** Points over two values: a parameter against a result, one dot a run or trial. */
import { useState } from "react";
import { value as text } from "~/format/number";
import { axisOf, position } from "./axis";
import css from "./Scatter.module.css";

export interface Dot {
  id: string;
  label: string;
  x: number | string | boolean | null | undefined;
  y: number | null | undefined;
  strong?: boolean;
}

export function Scatter({ dots, xLabel, yLabel, log = false, height = 220, onOpen }: { dots: readonly Dot[]; xLabel: string; yLabel: string; log?: boolean; height?: number; onOpen?: (id: string) => void }) {
  const [near, setNear] = useState<Dot | null>(null);
  const x = axisOf(dots.map((dot) => dot.x), log);
  const y = axisOf(dots.map((dot) => dot.y));
  const [left, right, top, bottom, width] = [52, 12, 10, 34, 400];
  const at = (dot: Dot) => [position(x, dot.x), position(y, dot.y)] as const;
  return (
    <figure className={css.scatter}>
      <svg viewBox={`0 0 ${width} ${height}`} style={{ width: "100%", height }} preserveAspectRatio="none" role="img" aria-label={`${yLabel} over ${xLabel}, ${dots.length} points`}>
        {y.ticks.map((tick) => <line key={tick.text} x1={left} x2={width - right} y1={top + (1 - tick.at) * (height - top - bottom)} y2={top + (1 - tick.at) * (height - top - bottom)} stroke="var(--line)" vectorEffect="non-scaling-stroke" />)}
      </svg>
      <div className={css.dots} style={{ left: `${(left / width) * 100}%`, right: `${(right / width) * 100}%`, top, bottom }}>
        {dots.map((dot) => {
          const [px, py] = at(dot);
          if (px === null || py === null) return null;
          return <button key={dot.id} type="button" tabIndex={-1} aria-label={dot.label} data-strong={dot.strong || undefined} style={{ left: `${px * 100}%`, top: `${(1 - py) * 100}%` }} onMouseEnter={() => setNear(dot)} onMouseLeave={() => setNear(null)} onClick={() => onOpen?.(dot.id)} />;
        })}
        {x.ticks.map((tick) => <span key={tick.text} className={css.x} style={{ left: `${tick.at * 100}%` }}>{tick.text}</span>)}
        {y.ticks.map((tick) => <span key={tick.text} className={css.y} style={{ top: `${(1 - tick.at) * 100}%` }}>{tick.text}</span>)}
      </div>
      <figcaption className={css.label}>{near ? <><b>{near.label}</b>: {xLabel} {typeof near.x === "number" ? text(near.x) : String(near.x)}, {yLabel} {text(near.y)}</> : `${yLabel} over ${xLabel}`}</figcaption>
    </figure>
  );
}
