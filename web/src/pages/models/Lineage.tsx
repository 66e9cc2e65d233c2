/** What something comes from, as a row of boxes: data and code, the run, the model. */
import { Link } from "@tanstack/react-router";
import { Fragment, type ReactNode } from "react";
import { seg } from "~/api/client";
import type { ModelLineage } from "~/api/serving";
import css from "./Model.module.css";

export function Lineage({ lineage, model, version, project }: { lineage: ModelLineage; model: string; version: number; project: string }) {
  const base = `/p/${seg(project)}`;
  const inputs: ReactNode[] = [
    ...(lineage.data ?? []).map((reference) => <Box key={reference} kind="data" to={`${base}/data/${seg(reference.split("@")[0] ?? "")}`}>{reference}</Box>),
    ...(lineage.snapshot ? [<Box key="code" kind="code">{lineage.code?.["git_commit"]?.slice(0, 10) ?? `snapshot ${lineage.snapshot.slice(0, 10)}`}</Box>] : []),
    ...(lineage.parameters && Object.keys(lineage.parameters).length ? [<Box key="params" kind="parameters">{Object.entries(lineage.parameters).slice(0, 4).map(([name, each]) => `${name}=${each}`).join(", ")}</Box>] : []),
  ];
  const steps: ReactNode[][] = [inputs, lineage.run ? [<Box key="run" kind="run" to={`${base}/runs/${lineage.run}`}>{lineage.run_name ?? lineage.run.slice(0, 10)}</Box>] : [], [<Box key="model" kind="model">{model} / {version}</Box>]];
  const shown = steps.filter((step) => step.length > 0);
  return (
    <div className={css.lineage} role="group" aria-label="Lineage">
      {shown.map((step, i) => <Fragment key={i}>{i > 0 && <span className={css.arrow} aria-hidden>→</span>}<div className={css.step}>{step}</div></Fragment>)}
    </div>
  );
}

export function Box({ kind, to, children }: { kind: string; to?: string; children: ReactNode }) {
  const inside = <><span>{kind}</span><b className="truncate">{children}</b></>;
  return to ? <Link className={css.box} to={to as "/home"}>{inside}</Link> : <div className={css.box}>{inside}</div>;
}
