/** One endpoint: is it well, how fast, who gets how much of the traffic; try it, roll it forward or back. */
import { Badge, Button, Group, Modal, NumberInput, SegmentedControl, Slider, Tabs, Textarea, useComputedColorScheme } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconArrowBackUp, IconPlayerPlay, IconSettings } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { patch, post, Problem, remove, seg, send } from "~/api/client";
import { done } from "~/api/query";
import { driftQuery, endpointQuery, schemaQuery, trafficQuery, type EndpointDetail, type Traffic } from "~/api/serving";
import { color } from "~/chart/colors";
import { Plot, type Line } from "~/chart/Plot";
import { Confirm } from "~/form/Confirm";
import { useForm } from "~/form/useForm";
import { count, percent, plural, value } from "~/format/number";
import { clockTime, duration, fullTime } from "~/format/time";
import { useRefresh, useRefreshNoun } from "~/live/useLive";
import { Command, Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { Meter } from "~/shell/Meter";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Facts, Title } from "~/shell/Title";
import { bodyOf } from "./example";
import { percentile, perMinute } from "./latency";
import { Predictions } from "./Predictions";
import { compact, pretty } from "./pretty";
import { serves, share } from "./serves";
import grid from "~/shell/Grid.module.css";
import css from "./Endpoint.module.css";

export function EndpointPage() {
  const { project, name } = useParams({ strict: false }) as { project: string; name: string };
  const query = useQuery(endpointQuery(name));
  useRefreshNoun(project, "endpoints", ["endpoint", name]);
  useRefresh(query.data ? `endpoints/${query.data.id}` : null, ["endpoint", name]);
  return <Loaded query={query} height={480}>{(endpoint) => <Shown endpoint={endpoint} project={project} />}</Loaded>;
}

function Shown({ endpoint, project }: { endpoint: EndpointDetail; project: string }) {
  const { tab = "traffic", minutes = "60", prediction = "" } = useSearch({ strict: false }) as { tab?: string; minutes?: string; prediction?: string };
  const navigate = useNavigate();
  const client = useQueryClient();
  const refresh = () => void client.invalidateQueries({ queryKey: ["endpoint", endpoint.name] });
  const act = useMutation({ mutationFn: ({ what, body }: { what: string; body?: object }) => post(`/api/v1/endpoints/${seg(endpoint.name)}/${what}`, body ?? {}), onSuccess: refresh });
  const gone = useMutation({ mutationFn: () => remove(`/api/v1/endpoints/${seg(endpoint.name)}`), onSuccess: () => { done(`${endpoint.name} is gone.`); void navigate({ to: `/p/${seg(project)}/endpoints` as never }); } });
  const set = (next: object) => void navigate({ search: { tab: tab === "traffic" ? undefined : tab, minutes: minutes === "60" ? undefined : minutes, prediction: prediction || undefined, ...next } as never, replace: true } as never);
  const live = endpoint.revisions.filter((revision) => revision.role !== "retired" || revision.weight > 0);
  const canary = endpoint.canary_step === null ? undefined : endpoint.revisions.filter((revision) => revision.role === "active").at(-1);
  return (
    <>
      <Title
        note={<><State state={endpoint.state} /><span>·</span><span>{serves(endpoint)}</span><span>·</span><span>{endpoint.ready} ready of {endpoint.least} to {endpoint.most}</span>{endpoint.alias && <><span>·</span><span>follows <b>{endpoint.alias}</b></span></>}{endpoint.shared && <><span>·</span><span>{endpoint.replicas.some((replica) => !replica.shared) ? "shares a process, but has its own now" : "shares a process"}</span></>}{keeps(endpoint.keep) && <><span>·</span><span>keeps payloads: {keeps(endpoint.keep)}</span></>}<span>·</span><code>{endpoint.url}</code></>}
        actions={
          <>
            <Scaling endpoint={endpoint} onDone={refresh} />
            {canary && <Button variant="default" onClick={() => act.mutate({ what: "promote" })}>All traffic to version {canary.version}</Button>}
            <Confirm
              title="Roll back?" action="Roll back" color="accent" onYes={() => act.mutate({ what: "rollback" })}
              trigger={(open) => <Button variant="default" leftSection={<IconArrowBackUp size={14} />} onClick={open} disabled={endpoint.revisions.length < 2} loading={act.isPending}>Roll back</Button>}
            >The revision before answers again. Nothing is deleted, and no request is dropped on the way.</Confirm>
            <Confirm title={`Delete ${endpoint.name}?`} action="Delete" onYes={() => gone.mutate()} trigger={(open) => <Button variant="default" c="var(--bad)" onClick={open}>Delete</Button>}>Its address stops answering at once. The model and its versions stay.</Confirm>
          </>
        }
      >{endpoint.name}</Title>
      {endpoint.trouble && <div className={css.trouble} role="alert"><State state="unhealthy" /><p>{endpoint.trouble}</p></div>}
      <Tabs value={tab} onChange={(next) => set({ tab: next === "traffic" ? undefined : next })} keepMounted={false}>
        <Tabs.List mb={12}>
          <Tabs.Tab value="traffic">Traffic</Tabs.Tab>
          <Tabs.Tab value="try">Try it</Tabs.Tab>
          <Tabs.Tab value="predictions">Predictions</Tabs.Tab>
          <Tabs.Tab value="revisions">Revisions</Tabs.Tab>
          <Tabs.Tab value="drift">Drift</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="traffic">
          <div className={grid.grid}>
            <div className={`${grid.w8} ${grid.stack}`}><Flow name={endpoint.name} minutes={Number(minutes)} onMinutes={(next) => set({ minutes: next === "60" ? undefined : next })} /></div>
            <div className={`${grid.w4} ${grid.stack}`}>
              <Panel title="Who gets the traffic"><Shares revisions={live} canary={endpoint.canary} step={endpoint.canary_step} name={endpoint.name} onDone={refresh} project={project} /></Panel>
              <Panel title="Replicas" flush>
                {endpoint.replicas.length === 0 ? <p className={css.quiet}>None runs; the next request starts one and waits for it.</p> : (
                  <ul className={css.list}>{endpoint.replicas.map((replica) => <li key={replica.workload_id}><State state={replica.state} /><Link className="link truncate" to={`/p/${seg(project)}/workloads/${replica.workload_id}` as "/home"}>{replica.workload_id}</Link><span className="dim">{replica.revision !== null && `revision ${replica.revision} · `}<Ago at={replica.created_at} /></span></li>)}</ul>
                )}
              </Panel>
              <Panel title="History" flush>
                <ol className={css.history} tabIndex={0} aria-label="History">{endpoint.events.slice(0, 30).map((event, i) => <li key={i}><time dateTime={event.at} title={fullTime(event.at)}>{clockTime(event.at)}</time><div><b>{event.kind.replaceAll("_", " ")}</b><p className="dim">{event.sentence}</p></div></li>)}</ol>
              </Panel>
            </div>
          </div>
        </Tabs.Panel>
        <Tabs.Panel value="try"><Try endpoint={endpoint} onTrace={(id) => set({ tab: "predictions", prediction: id })} /></Tabs.Panel>
        <Tabs.Panel value="predictions"><Predictions name={endpoint.name} project={project} prediction={prediction} onPick={(id) => set({ prediction: id || undefined })} /></Tabs.Panel>
        <Tabs.Panel value="revisions">
          <Panel flush>
            <div className={css.scroll} tabIndex={0} role="region" aria-label="Revisions">
              <table className={css.table}>
                <thead><tr><th className="num">Revision</th><th>Model</th><th>Role</th><th className="num">Traffic</th><th>Because</th><th>By</th><th>When</th><th><span className="visually-hidden">Actions</span></th></tr></thead>
                <tbody>
                  {[...endpoint.revisions].reverse().map((revision) => (
                    <tr key={revision.id}>
                      <td className="num">{revision.number}</td>
                      <td><Link className="name" to={`/p/${seg(project)}/models/${seg(revision.model)}/${revision.version}` as "/home"}>{revision.model}/{revision.version}</Link></td>
                      <td><State state={revision.role} /></td><td className="num">{percent(share(revision.weight))}</td><td>{revision.reason}</td><td>{revision.created_by}</td><td><Ago at={revision.created_at} /></td>
                      <td>{revision.role !== "active" && <Button size="compact-xs" variant="default" onClick={() => act.mutate({ what: "rollback", body: { to: revision.number } })}>Go back to it</Button>}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
          </Panel>
        </Tabs.Panel>
        <Tabs.Panel value="drift"><DriftOf name={endpoint.name} /></Tabs.Panel>
      </Tabs>
    </>
  );
}

function Flow({ name, minutes, onMinutes }: { name: string; minutes: number; onMinutes: (minutes: string) => void }) {
  const query = useQuery(trafficQuery(name, minutes));
  const data = query.data;
  const errors = data && data.requests ? data.errors / data.requests : 0;
  return (
    <>
      <div className={css.meters}>
        <Meter label="Requests" value={count(data?.requests ?? 0)} note={data ? `${data.requests && data.requests / minutes < 0.1 ? "less than 0.1" : value(data.requests / Math.max(1, minutes), 3)} a minute` : ""} />
        <Meter label="Errors" value={percent(errors, 2)} tone={errors > 0.005 ? "bad" : "good"} share={errors} note={data ? `${plural(data.errors, "error")}; ${percent(data.error_budget.used)} of the error budget used` : ""} />
        <Meter label="Latency, middle" value={data?.percentiles.p50 === null || !data ? "–" : value(data.percentiles.p50, 3)} unit="ms" note="half are faster" />
        <Meter label="Latency, p99" value={data?.percentiles.p99 === null || !data ? "–" : value(data.percentiles.p99, 3)} unit="ms" note={data?.percentiles.p95 === null || !data ? "" : `p95 ${value(data.percentiles.p95, 3)} ms`} />
      </div>
      <Panel title="Requests a minute" note={<Key names={[["requests", 0], ["errors", 7]]} />} actions={<SegmentedControl aria-label="How far back" value={String(minutes)} onChange={onMinutes} data={[{ value: "15", label: "15 min" }, { value: "60", label: "1 h" }, { value: "360", label: "6 h" }, { value: "1440", label: "24 h" }]} />}>
        <Loaded query={query} height={180}>{(traffic) => (traffic.minutes.length === 0 ? <p className="dim" style={{ height: 180 }}>No request yet in this time.</p> : <Rates traffic={traffic} minutes={minutes} />)}</Loaded>
      </Panel>
      <Panel title="Latency by minute, ms" note={<Key names={[["p50", 0], ["p95", 1], ["p99", 3]]} />}><Loaded query={query} height={180}>{(traffic) => (traffic.minutes.length === 0 ? <p className="dim" style={{ height: 180 }}>No request yet in this time.</p> : <Latencies traffic={traffic} minutes={minutes} />)}</Loaded></Panel>
    </>
  );
}

function Key({ names }: { names: readonly (readonly [string, number])[] }) {
  const scheme = useComputedColorScheme("light");
  return <span className={css.key}>{names.map(([name, index]) => <span key={name}><i style={{ background: color(index, scheme) }} aria-hidden />{name}</span>)}</span>;
}

const series = (xs: number[], ys: number[]) => {
  const [steps, y] = [Float64Array.from(xs), Float64Array.from(ys)];
  return { steps, times: steps, min: y, max: y, thinned: false };
};

/** The time that is looked at, to its end: a quiet hour looks quiet. */
const span = (minutes: number): [number, number] => {
  const now = Math.ceil(Date.now() / 60_000) * 60;
  return [now - minutes * 60, now];
};

function Rates({ traffic, minutes }: { traffic: Traffic; minutes: number }) {
  const lines = useMemo<Line[]>(() => {
    const rows = perMinute(traffic);
    const xs = rows.map((row) => row.time);
    return [
      { id: "requests", label: "requests", index: 0, series: series(xs, rows.map((row) => row.requests)) },
      { id: "errors", label: "errors", index: 7, series: series(xs, rows.map((row) => row.errors)) },
    ];
  }, [traffic]);
  return <Plot title="Requests a minute" lines={lines} height={180} counts x="clock" syncKey="endpoint" range={span(minutes)} />;
}

function Latencies({ traffic, minutes }: { traffic: Traffic; minutes: number }) {
  const lines = useMemo<Line[]>(() => {
    const rows = perMinute(traffic); // a minute without requests is a gap, not a line
    const xs = rows.map((row) => row.time);
    return ([["p50", 0.5, 0], ["p95", 0.95, 1], ["p99", 0.99, 3]] as const).map(([label, at, index]) => ({ id: label, label, index, series: series(xs, rows.map((row) => percentile(row.histogram, traffic.bounds_milliseconds, at) ?? NaN)) }));
  }, [traffic]);
  return <Plot title="Latency by minute" lines={lines} height={180} x="clock" syncKey="endpoint" range={span(minutes)} />;
}

function Shares({ revisions, canary, step, name, onDone, project }: { revisions: EndpointDetail["revisions"]; canary: readonly number[]; step: number | null; name: string; onDone: () => void; project: string }) {
  const [draft, setDraft] = useState<number | null>(null);
  const running = step !== null;
  const actives = revisions.filter((revision) => revision.role === "active");
  const change = useMutation({
    mutationFn: (wanted: number) => (running ? post(`/api/v1/endpoints/${seg(name)}/share`, { share: wanted }) : patch(`/api/v1/endpoints/${seg(name)}`, { canary: [wanted, ...canary.filter((each) => each > wanted)] })),
    onSuccess: (_, wanted) => { setDraft(null); onDone(); done(running ? `The canary has ${wanted}% of the traffic.` : "The next rollout begins with this share."); },
  });
  const now = running ? Math.round(share(actives.at(-1)?.weight ?? 0) * 100) : (canary[0] ?? 10);
  const shown = draft ?? now;
  const spoken = running ? "Share of the canary" : "Share of the next canary";
  return (
    <div className={css.shares}>
      {revisions.map((revision) => (
        <div key={revision.id} className={css.share}>
          <span><Link className="name" to={`/p/${seg(project)}/models/${seg(revision.model)}/${revision.version}` as "/home"}>{revision.model}/{revision.version}</Link> {(revision.role === "new" || (step !== null && revision === actives.at(-1))) && <Badge variant="light" tt="none" fw={500}>{revision.role === "new" ? "starting" : "canary"}</Badge>}</span>
          <b>{percent(share(revision.weight))}</b>
          <div className={css.bar}><i style={{ width: percent(share(revision.weight)) }} /></div>
        </div>
      ))}
      <div className={css.canary}>
        <span className="dim">{step !== null ? `Rolling out: step ${step + 1} of ${canary.length}` : canary.length ? `A new revision begins with ${canary.join("%, then ")}%` : "A new revision takes all traffic at once"}</span>
        <Slider aria-label={spoken} thumbLabel={spoken} min={1} max={99} value={shown} onChange={setDraft} label={(each) => `${each}%`} size="sm" />
        <Group justify="flex-end"><Button size="compact-xs" variant="default" disabled={draft === null || draft === now} loading={change.isPending} onClick={() => change.mutate(shown)}>{running ? `Give the canary ${shown}% now` : `Begin the next canary with ${shown}%`}</Button></Group>
      </div>
    </div>
  );
}

function Scaling({ endpoint, onDone }: { endpoint: EndpointDetail; onDone: () => void }) {
  const [opened, { open, close }] = useDisclosure(false);
  const form = useForm(
    { least: endpoint.least, most: endpoint.most, target: endpoint.target, idle_seconds: endpoint.idle_seconds, timeout_seconds: endpoint.timeout_seconds },
    (values) => patch(`/api/v1/endpoints/${seg(endpoint.name)}`, values),
    () => { close(); onDone(); },
  );
  const number = (key: keyof typeof form.values, label: string, description: string) => <NumberInput label={label} description={description} value={form.values[key]} onChange={(each) => form.set(key, Number(each))} error={form.error(key)} />;
  const fields = [number("least", "Least replicas", "0: none while nobody asks"), number("most", "Most replicas", "however busy it is"), number("target", "Requests at once a replica", "above it another one starts"), number("idle_seconds", "Idle after, seconds", "then down to the least"), number("timeout_seconds", "Time-out, seconds", "for one request")];
  const rest = form.rest();
  return (
    <>
      <Button variant="default" leftSection={<IconSettings size={14} />} onClick={open}>Scaling</Button>
      <Modal opened={opened} onClose={close} title="Scaling" size="sm" closeButtonProps={{ "aria-label": "Close" }}>
        <form className={css.fields} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
          {fields.map((field, i) => <div key={i}>{field}</div>)}
          {rest && <Failure error={rest} />}
          <Group justify="flex-end"><Button type="submit" loading={form.busy}>Save</Button></Group>
        </form>
      </Modal>
    </>
  );
}

const NO_EXAMPLE = '{"inputs": [[0]]}';

function Try({ endpoint, onTrace }: { endpoint: EndpointDetail; onTrace: (id: string) => void }) {
  const { name, url } = endpoint;
  const schema = useQuery(schemaQuery(endpoint));
  const example = useMemo(() => (schema.data ? pretty(JSON.stringify(bodyOf(schema.data))) : null), [schema.data]);
  const [draft, setDraft] = useState<string | null>(null); // from the first touch on: an example that comes later changes nothing under the hand
  const body = draft ?? example ?? NO_EXAMPLE;
  const ask = useMutation({
    meta: { shown: true },
    mutationFn: async () => {
      try {
        JSON.parse(body);
      } catch (error) {
        throw new Problem({ status: 422, detail: `This is not JSON: ${error instanceof Error ? error.message : ""}` });
      }
      const begin = performance.now();
      const response = await send("POST", `/api/v1/endpoints/${seg(name)}/predict`, { raw: body, headers: { "Content-Type": "application/json" } });
      const text = await response.text();
      return { text: pretty(text), seconds: (performance.now() - begin) / 1000, prediction: response.headers.get("narf-prediction") };
    },
  });
  return (
    <div className={grid.grid}>
      <Panel title="Request" className={grid.w6 ?? ""} actions={<Button leftSection={<IconPlayerPlay size={13} />} loading={ask.isPending} onClick={() => ask.mutate()}>Ask</Button>}>
        <Textarea aria-label="Body of the request" autosize minRows={10} maxRows={22} value={body} spellCheck={false} styles={{ input: { fontFamily: "var(--mono)" } }} onFocus={() => setDraft(body)} onBlur={() => body === NO_EXAMPLE && setDraft(null)} onChange={(event) => setDraft(event.currentTarget.value)} />
        <p className="dim" style={{ margin: "8px 0" }}>{schema.data ? "The example comes from the model's own signature." : "The example comes from a running replica; asking starts one."}</p>
        <Command text={`curl ${url}/predict -H "Authorization: Bearer $NARF_TOKEN" -d '${short(body)}'`} />
      </Panel>
      <Panel title="Answer" className={grid.w6 ?? ""} note={ask.data ? duration(ask.data.seconds) : undefined}>
        {ask.error ? <Failure error={ask.error} /> : ask.data ? <><pre className={css.answer} tabIndex={0} aria-label="Answer">{ask.data.text}</pre><Origin id={ask.data.prediction} onTrace={onTrace} /></> : <p className="dim">{ask.isPending ? "Waiting; a sleeping endpoint takes a moment to wake." : "Press Ask."}</p>}
      </Panel>
    </div>
  );
}

/** A record comes within seconds; until then its id leads nowhere. */
function Origin({ id, onTrace }: { id: string | null; onTrace: (id: string) => void }) {
  return id && <Group justify="flex-end" mt={10}><Button size="compact-xs" variant="default" onClick={() => onTrace(id)}>Where it came from</Button></Group>;
}

const short = (body: string): string => {
  const line = compact(body);
  return line.length > 160 ? `${line.slice(0, 150)}…` : line;
};

/** Which payloads are kept, in words; "" none. */
function keeps(keep: EndpointDetail["keep"]): string {
  const share = Number(keep["percent"] ?? 0);
  const which = [share > 0 ? `${share}% of all` : "", keep["errors"] ? "errors" : ""].filter(Boolean).join(" and ");
  return which && `${which}, for ${plural(Number(keep["days"] ?? 0), "day")}`;
}

const LEAST_ROWS = 200; // below this a shift may be chance, and nobody is told

function DriftOf({ name }: { name: string }) {
  const query = useQuery(driftQuery(name));
  return (
    <Loaded query={query} height={240}>
      {({ revisions, hours }) => revisions.length === 0 ? <Panel><Empty title="Nothing was predicted yet" command={`narf predict ${name} --input rows.json`}>Inputs are compared with the data that the model was trained on, from the first request on.</Empty></Panel> : (
        <div className={grid.stack}>
          {revisions.map((revision) => {
            const drifted = revision.features.filter((feature) => feature.drifted).length;
            const said = drifted > 0 ? `${plural(drifted, "feature")} drifted` : revision.features.some((feature) => feature.rows < LEAST_ROWS) ? `too few rows to tell (${LEAST_ROWS})` : "nothing drifts";
            return (
              <Panel key={revision.revision} title={`Revision ${revision.revision}: ${revision.model}/${revision.version}`} note={`${plural(revision.rows, "row")} in ${hours} hours; ${said}${revision.baseline ? `; compared with ${revision.baseline}` : ""}`} flush>
                {revision.features.length === 0 ? <p className={css.quiet}>{revision.note || "Nothing to compare with has come yet."}</p> : (
                  <div className={css.scroll} tabIndex={0} role="region" aria-label="Drift by feature">
                    <table className={css.table}>
                      <thead><tr><th>Feature</th><th>State</th><th className="num">PSI</th><th className="num">KS</th><th className="num">Missing</th><th className="num">Expected missing</th><th className="num">Out of range</th><th className="num">Mean</th></tr></thead>
                      <tbody>{[...revision.features].sort((a, b) => (b.psi ?? 0) - (a.psi ?? 0)).slice(0, 200).map((feature) => (
                        <tr key={feature.name}><td><code>{feature.name}</code></td><td><State state={feature.drifted ? "drifted" : feature.rows < LEAST_ROWS ? "too few rows" : "steady"} /></td><td className="num">{value(feature.psi, 3)}</td><td className="num">{value(feature.ks, 3)}</td><td className="num">{percent(feature.missing, 1)}</td><td className="num">{percent(feature.expected_missing, 1)}</td><td className="num">{percent(feature.out_of_range, 1)}</td><td className="num">{value(feature.mean, 4)}</td></tr>
                      ))}</tbody>
                    </table>
                  </div>
                )}
                {Object.keys(revision.outputs).length > 0 && <div style={{ padding: 14 }}><Facts facts={[["Answers", <details key="o"><summary>what was answered</summary><pre className={css.answer}>{JSON.stringify(revision.outputs, null, 1)}</pre></details>]]} /></div>}
              </Panel>
            );
          })}
        </div>
      )}
    </Loaded>
  );
}
