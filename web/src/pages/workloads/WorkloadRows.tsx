/** A short list of workloads, without tools. */
import { Link } from "@tanstack/react-router";
import { seg } from "~/api/client";
import type { Workload } from "~/api/types";
import { between, duration } from "~/format/time";
import { State } from "~/shell/State";
import { Ago, useNow } from "~/shell/Time";
import { asked } from "./asked";
import css from "./WorkloadRows.module.css";

export function WorkloadRows({ workloads }: { workloads: readonly Workload[] }) {
  const now = useNow();
  return (
    <div className={css.scroll} tabIndex={0} role="region" aria-label="Workloads">
      <table className={css.rows}>
        <thead><tr><th>Name</th><th>State</th><th>Kind</th><th>Owner</th><th>Resources</th><th className="num">Duration</th><th className="num">Created</th><th>Why</th></tr></thead>
        <tbody>
          {workloads.map((workload) => (
            <tr key={workload.id}>
              <td className="truncate"><Link className="name" to={`/p/${seg(workload.project)}/workloads/${workload.id}` as "/home"}>{workload.name}</Link></td>
              <td><State state={workload.state} /></td>
              <td>{workload.kind.replace("_", " ")}</td>
              <td>{workload.owner}</td>
              <td>{asked(workload)}</td>
              <td className="num">{duration(between(workload.started_at, workload.ended_at, now))}</td>
              <td className="num"><Ago at={workload.created_at} /></td>
              <td className="truncate" title={workload.sentence}><span className="dim">{workload.sentence}</span></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
