/** One search as it goes: its trials, the best so far, which parameters matter, and where the good values lie. */
import { Button, Group, Modal, NumberInput, Tabs, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPlayerPause, IconPlayerPlay, IconPlayerStop } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo } from "react";
import { post, Problem, seg } from "~/api/client";
import { done } from "~/api/query";
import { bestQuery, historyQuery, importanceQuery, isSearching, parallelQuery, sliceQuery, studyQuery, trialCount, trialsQuery, type Study, type Trial } from "~/api/studies";
import { Parallel } from "~/chart/Parallel";
import { Plot, type Line } from "~/chart/Plot";
import { Scatter } from "~/chart/Scatter";
import { Confirm } from "~/form/Confirm";
import { useForm } from "~/form/useForm";
import { count, percent, value } from "~/format/number";
import { duration } from "~/format/time";
import { useRefresh } from "~/live/useLive";
import { ButtonLink } from "~/shell/ButtonLink";
import { Command, Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Facts, Title } from "~/shell/Title";
import { Table, type Column } from "~/table/Table";
import grid from "~/shell/Grid.module.css";
import css from "./Tuning.module.css";

export function StudyPage() {
  const { project, id } = useParams({ strict: false }) as { project: string; id: string };
  const query = useQuery(studyQuery(id));
  useRefresh(`studies/${id}`, ["study", id]);
  return <Loaded query={query} height={500}>{(study) => <Shown study={study} project={project} />}</Loaded>;
}

function Shown({ study, project }: { study: Study; project: string }) {
  const search = useSearch({ strict: false }) as { tab?: string; q?: string; sort?: string; columns?: string };
  const navigate = useNavigate();
  const client = useQueryClient();
  const act = useMutation({ mutationFn: (what: string) => post(`/api/v1/studies/${study.id}/${what}`), onSuccess: () => void client.invalidateQueries({ queryKey: ["study", study.id] }) });
  const set = (next: object) => void navigate({ search: { ...search, ...next } as never, replace: true } as never);
  const searching = isSearching(study);
  const over = trialCount(study) - (study.trials["running"] ?? 0);
  return (
    <>
      <Title
        note={<><State state={study.state} /><span>·</span><span>{study.direction === "maximize" ? "maximizes" : "minimizes"} <b>{study.metric}</b></span><span>·</span><span>{count(over)}{study.budget.trials ? ` of ${count(study.budget.trials)}` : ""} trials</span><span>·</span><span>{duration(study.spent_seconds)}</span><span>·</span><Ago at={study.created_at} /></>}
        actions={
          <>
            {study.state === "running" && <Button variant="default" leftSection={<IconPlayerPause size={14} />} onClick={() => act.mutate("pause")}>Pause</Button>}
            {study.state === "paused" && <Button variant="default" leftSection={<IconPlayerPlay size={14} />} onClick={() => act.mutate("resume")}>Go on</Button>}
            {!searching && study.state !== "paused" && <Extend study={study} />}
            {(searching || study.state === "paused") && (
              <Confirm title={`Stop ${study.name}?`} action="Stop it" onYes={() => act.mutate("cancel")} trigger={(open) => <Button variant="default" c="var(--bad)" leftSection={<IconPlayerStop size={14} />} onClick={open}>Stop</Button>}>Running trials are cancelled. What was found stays, and the study can be extended later.</Confirm>
            )}
            {study.best_value !== null && <Register study={study} project={project} />}
          </>
        }
      >{study.name}</Title>
      {study.warnings.length > 0 && <div className={css.warnings} role="status">{study.warnings.map((warning) => <p key={warning}>{warning}</p>)}</div>}
      <div className={grid.grid}>
        <div className={`${grid.w8} ${grid.stack}`}>
          <Panel title="Value by trial" note={study.sentence}><History study={study} /></Panel>
        </div>
        <div className={`${grid.w4} ${grid.stack}`}>
          <Panel title="Best so far"><Best study={study} project={project} /></Panel>
          <Panel title="Importance"><Importance study={study} /></Panel>
        </div>
        <Panel className={grid.w12 ?? ""} flush>
          <Tabs value={search.tab ?? "trials"} onChange={(tab) => set({ tab: tab === "trials" ? undefined : tab })} keepMounted={false}>
            <Tabs.List px={8}>
              <Tabs.Tab value="trials">Trials</Tabs.Tab>
              <Tabs.Tab value="parallel">Parallel coordinates</Tabs.Tab>
              <Tabs.Tab value="slice">Slices</Tabs.Tab>
              <Tabs.Tab value="settings">Settings</Tabs.Tab>
            </Tabs.List>
            <Tabs.Panel value="trials"><Trials study={study} project={project} view={search} onView={set} /></Tabs.Panel>
            <Tabs.Panel value="parallel" p={14}><Lines study={study} project={project} /></Tabs.Panel>
            <Tabs.Panel value="slice" p={14}><Slices study={study} /></Tabs.Panel>
            <Tabs.Panel value="settings" p={14}>
              <Facts facts={[
                ["Script", <code key="s">{study.script} {study.arguments.join(" ")}</code>], ["Sampler", study.sampler], ["Pruner", study.pruner], ["Engine", study.engine], ["At once", study.parallel], ["Seed", study.seed],
                ["Counts", study.value_from === "best" ? "a trial's best value" : "a trial's last value"],
                ...study.space.map((each) => [String(each["name"]), <code key={String(each["name"])}>{String(each["range"] ?? "")}</code>] as const),
                ["The same from a terminal", <Command key="c" text={`narf tune --show ${study.name} --project ${project}`} />],
              ]} />
            </Tabs.Panel>
          </Tabs>
        </Panel>
      </div>
    </>
  );
}

const noValue = (study: Study): string => `No trial has given a value${isSearching(study) || study.state === "paused" ? " yet" : ""}.`;

function History({ study }: { study: Study }) {
  const query = useQuery(historyQuery(study.id));
  const lines = useMemo<Line[]>(() => {
    const { numbers = [], values = [], best = [] } = query.data ?? {};
    const series = (xs: number[], ys: number[]) => {
      const [steps, y] = [Float64Array.from(xs), Float64Array.from(ys)];
      return { steps, times: steps, min: y, max: y, thinned: false };
    };
    // The best stays until the trial that betters it: a staircase, not a slope.
    const stairs = best.flatMap((each, i) => (i === 0 ? [each] : [best[i - 1] ?? each, each]));
    return [
      { id: "value", label: study.metric, index: 9, dots: true, series: series(numbers, values) },
      { id: "best", label: "best so far", index: 0, series: series(numbers.flatMap((each, i) => (i === 0 ? [each] : [each, each])), stairs) },
    ];
  }, [query.data, study.metric]);
  if (query.data && query.data.numbers.length === 0) return <p className="dim" style={{ height: 220 }}>{noValue(study)}</p>;
  return <Loaded query={query} height={220}>{() => <Plot title={`${study.metric} by trial`} noun="trial" lines={lines} height={220} range={[-0.5, Math.max(...(query.data?.numbers ?? [0])) + 0.5]} />}</Loaded>;
}

function Best({ study, project }: { study: Study; project: string }) {
  const query = useQuery({ ...bestQuery(study.id), enabled: study.best_value !== null, retry: false });
  if (study.best_value === null) return <p className="dim">{noValue(study)}</p>;
  if (query.error && !(query.error instanceof Problem && query.error.status === 404)) return <Failure error={query.error} />;
  if (!query.data) return <div style={{ height: 120 }} aria-busy="true" />;
  const { trial, command, schedule = [] } = query.data;
  const shown = (each: unknown) => (typeof each === "number" ? value(each, 4) : String(each));
  const way = (name: string) => { const all = schedule.map((step) => shown(step.values[name])); return new Set(all).size > 1 ? all.join(" → ") : shown(trial.values[name]); };
  return (
    <>
      <div className={css.best}>
        <div><span>{study.metric}</span><b>{value(trial.value, 6)}</b></div>
        {Object.keys(trial.values).map((name) => <div key={name}><span>{name}</span><code>{way(name)}</code></div>)}
      </div>
      {schedule.length > 1 && <p className="dim">Trained in segments: trials {schedule.map((step) => step.trial).join(", ")}. The command has the last values throughout.</p>}
      <Group gap={8}>{trial.run_id && <ButtonLink size="compact-xs" variant="default" to={`/p/${seg(project)}/runs/${trial.run_id}`}>Open its run</ButtonLink>}</Group>
      <div style={{ marginTop: 10 }}><Command text={command} /></div>
    </>
  );
}

function Importance({ study }: { study: Study }) {
  const query = useQuery(importanceQuery(study.id));
  return (
    <Loaded query={query} height={100}>
      {({ importance, note }) => Object.keys(importance).length === 0 ? <p className="dim">{note}</p> : (
        <div className={css.importance}>
          {Object.entries(importance).sort((a, b) => b[1] - a[1]).map(([name, share]) => <div key={name}><b title={name}>{name}</b><span className={css.bar} style={{ width: "100%" }} aria-hidden><i style={{ width: percent(share) }} /></span><span className="num">{percent(share)}</span></div>)}
        </div>
      )}
    </Loaded>
  );
}

function Trials({ study, project, view, onView }: { study: Study; project: string; view: { q?: string; sort?: string; columns?: string }; onView: (view: object) => void }) {
  const query = useQuery(trialsQuery(study.id));
  const navigate = useNavigate();
  const columns = useMemo<Column<Trial>[]>(() => [
    { key: "number", label: "Trial", width: 70, numeric: true, cell: (trial) => trial.number, show: (trial) => (trial.run_id ? <Link className="name" to={`/p/${seg(project)}/runs/${trial.run_id}` as "/home"}>{trial.number}</Link> : trial.number) },
    { key: "state", label: "State", width: 110, cell: (trial) => trial.state, show: (trial) => <State state={trial.state} /> },
    { key: "value", label: study.metric, width: 120, numeric: true, cell: (trial) => trial.value ?? trial.last_value, show: (trial) => (trial.value === null && trial.last_value !== null ? <span className="dim">{value(trial.last_value)}</span> : value(trial.value)) },
    ...study.space.map((each): Column<Trial> => {
      const name = String(each["name"]);
      return { key: name, label: name, width: Math.max(96, name.length * 7.6 + 28), numeric: each["type"] !== "categorical", cell: (trial) => trial.values[name] ?? null, show: (trial) => { const own = trial.values[name]; return typeof own === "number" ? value(own, 4) : own === null || own === undefined ? "–" : String(own); } };
    }),
    { key: "seconds", label: "Time", width: 80, numeric: true, cell: (trial) => trial.seconds, show: (trial) => duration(trial.seconds) },
    { key: "reports", label: "Reports", width: 80, numeric: true, optional: true, cell: (trial) => trial.reports },
    { key: "sentence", label: "Why", width: 220, grow: true, cell: (trial) => trial.sentence },
  ], [study, project]);
  return (
    <Loaded query={query} height={300}>
      {(trials) => <Table label="Trials" rows={trials} columns={columns} rowKey={(trial) => String(trial.number)} view={{ ...view, sort: view.sort ?? "-number" }} onView={onView} height={420} noun="trial" hint="Filter: state:succeeded lr<0.01" onOpen={(trial) => trial.run_id && void navigate({ to: `/p/${seg(project)}/runs/${trial.run_id}` as never })} empty={<Empty title="No trial yet">The first one starts as soon as there is capacity.</Empty>} />}
    </Loaded>
  );
}

function Lines({ study, project }: { study: Study; project: string }) {
  const query = useQuery(parallelQuery(study.id));
  const trials = useQuery(trialsQuery(study.id));
  const navigate = useNavigate();
  return (
    <Loaded query={query} height={360}>
      {({ axes, numbers, lines, values }) => (
        <Parallel
          height={380} better={study.direction === "maximize" ? "high" : "low"} axes={[...axes.map((axis) => ({ name: axis.name, log: axis.scale === "log" || axis.scale === "pow2" })), { name: study.metric }]}
          lines={lines.map((line, i) => ({ id: String(numbers[i]), label: `Trial ${numbers[i]}`, values: [...line.slice(0, axes.length), values[i]], result: values[i] ?? null }))}
          onOpen={(number) => { const run = trials.data?.find((trial) => String(trial.number) === number)?.run_id; if (run) void navigate({ to: `/p/${seg(project)}/runs/${run}` as never }); }}
        />
      )}
    </Loaded>
  );
}

function Slices({ study }: { study: Study }) {
  const query = useQuery(sliceQuery(study.id));
  return (
    <Loaded query={query} height={300}>
      {({ parameters }) => {
        const names = Object.keys(parameters).filter((name) => (parameters[name]?.["values"]?.length ?? 0) > 0);
        if (names.length === 0) return <p className="dim">{noValue(study)}</p>;
        return (
          <div className={css.slices}>
            {names.map((name) => {
              const { values = [], results = [], numbers = [] } = parameters[name] as { values?: (number | string)[]; results?: number[]; numbers?: number[] };
              const scale = study.space.find((each) => each["name"] === name)?.["scale"];
              const top = study.direction === "maximize" ? Math.max(...results) : Math.min(...results);
              return <Scatter key={name} xLabel={name} yLabel={study.metric} log={scale === "log" || scale === "pow2"} dots={values.map((each, i) => ({ id: String(numbers[i]), label: `Trial ${numbers[i]}`, x: each, y: results[i] ?? null, strong: results[i] === top }))} />;
            })}
          </div>
        );
      }}
    </Loaded>
  );
}

function Extend({ study }: { study: Study }) {
  const [opened, { open, close }] = useDisclosure(false);
  const client = useQueryClient();
  const form = useForm({ trials: (study.budget.trials ?? trialCount(study)) + 20 }, (values) => post(`/api/v1/studies/${study.id}/extend`, { budget: { trials: values.trials } }), () => { close(); void client.invalidateQueries({ queryKey: ["study", study.id] }); });
  const trialsError = form.error("budget.trials") ?? form.error("budget");
  return (
    <>
      <Button variant="default" onClick={open}>Extend</Button>
      <Modal opened={opened} onClose={close} title="Go on searching" size="sm" closeButtonProps={{ "aria-label": "Close" }}>
        <form onSubmit={(event) => { event.preventDefault(); form.send(); }}>
          <NumberInput data-autofocus label="Trials in all" value={form.values.trials} min={1} onChange={(each) => form.set("trials", Number(each))} error={trialsError} />
          {form.rest() && <Failure error={form.rest()} />}
          <Group justify="flex-end" mt="md"><Button type="submit" loading={form.busy}>Go on</Button></Group>
        </form>
      </Modal>
    </>
  );
}

function Register({ study, project }: { study: Study; project: string }) {
  const [opened, { open, close }] = useDisclosure(false);
  const navigate = useNavigate();
  const form = useForm({ name: study.name }, (values) => post<{ name: string; version: string }>(`/api/v1/studies/${study.id}/register`, values), ({ name, version }) => { close(); done(`${name} version ${version} is registered.`); void navigate({ to: `/p/${seg(project)}/models` as never }); });
  const nameError = form.error("name");
  return (
    <>
      <Button onClick={open}>Register the best</Button>
      <Modal opened={opened} onClose={close} title="Register the best trial's model" size="sm" closeButtonProps={{ "aria-label": "Close" }}>
        <form onSubmit={(event) => { event.preventDefault(); form.send(); }}>
          <TextInput data-autofocus label="Model" value={form.values.name} onChange={(event) => form.set("name", event.currentTarget.value)} error={nameError} />
          {form.rest() && <Failure error={form.rest()} />}
          <Group justify="flex-end" mt="md"><Button type="submit" loading={form.busy}>Register</Button></Group>
        </form>
      </Modal>
    </>
  );
}
