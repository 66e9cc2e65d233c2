/** What was predicted lately, and where one prediction came from: version, run, code and data, and what was asked where that is kept. */
import { Button, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { get, seg } from "~/api/client";
import { predictionsQuery, traceQuery, type Payload, type Trace } from "~/api/serving";
import { bytes, count, plural, value } from "~/format/number";
import { fullTime } from "~/format/time";
import { Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { Ago } from "~/shell/Time";
import { Facts } from "~/shell/Title";
import { Lineage } from "../models/Lineage";
import { pretty } from "./pretty";
import grid from "~/shell/Grid.module.css";
import css from "./Endpoint.module.css";

export function Predictions({ name, project, prediction, onPick }: { name: string; project: string; prediction: string; onPick: (prediction: string) => void }) {
  const query = useQuery(predictionsQuery(name));
  return (
    <div className={grid.grid}>
      <Panel className={grid.w7 ?? ""} title="Predictions" note="the newest 100; records come within seconds and are kept for 7 days" actions={<Find key={prediction} prediction={prediction} onPick={onPick} />} flush>
        <Loaded query={query} height={320}>
          {({ items }) => items.length === 0 ? <Empty title="No prediction is recorded" command={`narf predict ${name} --input rows.json`}>Every answer carries an id, in its body and as the header narf-prediction; it leads here.</Empty> : (
            <div className={`${css.scroll} ${css.tall} ${css.tight}`} tabIndex={0} role="region" aria-label="Predictions">
              <table className={css.table}>
                <thead><tr><th>Prediction</th><th>When</th><th className="num">Revision</th><th className="num">Rows</th><th className="num">Took, ms</th><th className="num">Mean input</th><th className="num">Mean output</th></tr></thead>
                <tbody>
                  {items.map((each) => (
                    <tr key={each.id} data-picked={each.id === prediction || undefined}>
                      <td><button type="button" className={css.pick} aria-pressed={each.id === prediction} onClick={() => onPick(each.id)}><code>{each.id}</code></button></td>
                      <td><Ago at={each.at} /></td><td className="num">{each.revision}</td><td className="num">{count(each.rows)}</td><td className="num">{value(each.milliseconds, 3)}</td><td className="num">{value(each.input_mean, 4)}</td><td className="num">{value(each.output_mean, 4)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          )}
        </Loaded>
      </Panel>
      <div className={`${grid.w5} ${grid.stack}`}>{prediction ? <Traced key={prediction} prediction={prediction} project={project} /> : <Panel title="Where it came from"><p className="dim">Choose a prediction, or give the id of one: model version, run, code and data are shown here.</p></Panel>}</div>
    </div>
  );
}

function Find({ prediction, onPick }: { prediction: string; onPick: (prediction: string) => void }) {
  const [text, setText] = useState(prediction);
  return <form onSubmit={(event) => { event.preventDefault(); onPick(text.trim()); }}><TextInput aria-label="Find a prediction by its id" placeholder="pred-… and Enter" size="xs" w={210} value={text} onChange={(event) => setText(event.currentTarget.value)} /></form>;
}

function Traced({ prediction, project }: { prediction: string; project: string }) {
  const query = useQuery(traceQuery(prediction));
  return (
    <>
      <Panel title="Where it came from">
        <Loaded query={query} height={240}>{(trace) => <Origin trace={trace} project={project} />}</Loaded>
      </Panel>
      {query.data && <Panel title="What was asked and answered">{query.data.payload ? <Kept prediction={prediction} /> : <p className="dim">Its payload is not kept. An endpoint keeps some where it is told to: narf deploy … --keep-payloads errors,1% --for 7d</p>}</Panel>}
    </>
  );
}

function Origin({ trace, project }: { trace: Trace; project: string }) {
  const { lineage } = trace;
  const version = lineage.model === undefined ? null : `${lineage.model}/${lineage.version ?? ""}`;
  return (
    <div className={grid.stack}>
      <Facts facts={[
        ["Prediction", <code key="p">{trace.id}</code>],
        ["At", fullTime(trace.at)],
        trace.status === undefined ? ["Took", `${value(trace.milliseconds, 3)} ms for ${plural(trace.rows ?? 0, "row")}`] : trace.status < 400 ? ["Answered", `status ${trace.status}; its record has not come`] : ["Refused or failed", `status ${trace.status}: its model has not answered, so nothing else is recorded`],
        ["Endpoint", <Link key="e" className="link" to={`/p/${seg(trace.project)}/endpoints/${seg(trace.endpoint)}` as "/home"}>{trace.endpoint}{trace.revision === null ? "" : `, revision ${trace.revision}`}</Link>],
        ["Model", version && <Link key="m" className="link" to={`/p/${seg(trace.project)}/models/${version}` as "/home"}>{version}</Link>],
        ["Run", lineage.run && <Link key="r" className="link" to={`/p/${seg(trace.project)}/runs/${lineage.run}` as "/home"}>{lineage.run_name ?? lineage.run}</Link>],
      ]} />
      {lineage.model !== undefined && <Lineage lineage={lineage} model={lineage.model} version={lineage.version ?? 0} project={project} />}
    </div>
  );
}

/** Shown on demand only: reading it is in the audit log. */
function Kept({ prediction }: { prediction: string }) {
  const read = useMutation({ meta: { shown: true }, mutationFn: () => get<Payload>(`/api/v1/predictions/${seg(prediction)}/payload`) });
  if (read.data === undefined) {
    return (
      <>
        <p className="dim" style={{ marginBottom: 10 }}>It is what a caller has sent: maintainers may read it, and that is in the audit log.</p>
        <Button variant="default" size="compact-sm" loading={read.isPending} onClick={() => read.mutate()}>Show it</Button>
        {read.error && <Failure error={read.error} />}
      </>
    );
  }
  const { request, request_bytes, request_type, response, response_bytes, response_type, status } = read.data;
  return (
    <div className={grid.stack}>
      <Part title="Request" text={request} type={request_type} whole={request_bytes} />
      <Part title={`Answer, status ${status}`} text={response} type={response_type} whole={response_bytes} />
    </div>
  );
}

function Part({ title, text, type, whole }: { title: string; text: string; type: string; whole: number }) {
  const raw = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  return (
    <div>
      <h3>{title} <span className="dim">{type}, {bytes(whole)}{raw.length < whole ? `; the first ${bytes(raw.length)} are kept` : ""}</span></h3>
      {/octet-stream/.test(type) ? <p className="dim">Binary tensors; their bytes are in base64 in the answer of: narf trace … --json</p> : <pre className={css.answer} tabIndex={0} aria-label={title}>{pretty(new TextDecoder().decode(raw))}</pre>}
    </div>
  );
}
