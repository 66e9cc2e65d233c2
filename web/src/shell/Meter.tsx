/** A number with what it is out of, and a thin bar that says the same. */
import type { ReactNode } from "react";
import css from "./Meter.module.css";

export function Meter({ label, value, unit, share, note, tone = "info" }: { label: string; value: ReactNode; unit?: ReactNode; share?: number | null; note?: ReactNode; tone?: "good" | "info" | "warn" | "bad" | "accent" }) {
  return (
    <div className={css.meter}>
      <div className={css.label}>{label}</div>
      <div className={css.value}>{value} <span>{unit}</span></div>
      <div className={css.bar} data-tone={tone}>{share !== undefined && share !== null && <i style={{ width: `${Math.min(100, Math.max(0, share * 100))}%` }} />}</div>
      <div className={css.note}>{note}</div>
    </div>
  );
}
