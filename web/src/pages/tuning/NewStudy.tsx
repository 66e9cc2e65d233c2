/** The wizard: a script, the parameters found in it, their ranges, a budget, start. Nothing in the script changes. */
import { Autocomplete, Button, Checkbox, NumberInput, Select, TagsInput, TextInput } from "@mantine/core";
import { IconPlayerPlay, IconSearch } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import { post, Problem, seg } from "~/api/client";
import type { Discovery, FoundParameter } from "~/api/studies";
import { useForm } from "~/form/useForm";
import { count, plural } from "~/format/number";
import { CodeSource, mainScript, type Code } from "~/pages/new-run/Code";
import { words } from "~/pages/new-run/words";
import { Command, Failure, Panel } from "~/shell/Panel";
import { Title } from "~/shell/Title";
import { command, density, examples, size, wrong, type Parameter } from "./space";
import grid from "~/shell/Grid.module.css";
import css from "./Tuning.module.css";

interface Found {
  snapshot: string;
  script: string;
  discovery: Discovery;
  started: boolean;
}

export function NewStudy() {
  const { project } = useParams({ strict: false }) as { project: string };
  const [code, setCode] = useState<Code | null>(null);
  const [script, setScript] = useState("");
  const [args, setArgs] = useState("");
  const [found, setFound] = useState<Found | null>(null);
  const scripts = (code?.paths ?? []).filter((path) => path.endsWith(".py"));
  const discover = useMutation({
    meta: { shown: true },
    mutationFn: async (started: boolean) => {
      if (!code) return;
      const snapshot = await code.snapshot(project);
      const discovery = await post<Discovery>(`/api/v1/projects/${seg(project)}/studies/discover`, { snapshot, script, arguments: words(args), confirm: started });
      setFound({ snapshot, script, discovery, started });
    },
  });
  const choose = (next: Code | null) => {
    setCode(next);
    setScript(mainScript(next?.paths ?? []));
    setFound(null);
    discover.reset();
  };
  const first = (
    <Panel title="1 · The script">
      <div className={css.fields}>
        <CodeSource project={project} onCode={choose} note="The folder of a training script as it is" />
        {code && (
          <div className={css.two}>
            <Select label="Script" data={scripts} value={script} onChange={(value) => { setScript(value ?? ""); setFound(null); }} searchable nothingFoundMessage="No Python file is in this folder" />
            <TextInput label="Arguments that stay the same" placeholder="--epochs 5" value={args} onChange={(event) => setArgs(event.currentTarget.value)} />
          </div>
        )}
        {discover.error && <Failure error={discover.error} />}
        {code && <div><Button leftSection={<IconSearch size={14} />} loading={discover.isPending && !discover.variables} disabled={!script || discover.isPending} variant={found ? "default" : "filled"} onClick={() => discover.mutate(false)}>Find its parameters</Button></div>}
      </div>
    </Panel>
  );
  if (!found) return <><Title note="Choose a script; its parameters are found by reading it">New study</Title><div className={grid.stack}>{first}</div></>;
  const start = found.discovery.may_start && !found.started && <StartIt discovery={found.discovery} busy={discover.isPending && discover.variables} onStart={() => discover.mutate(true)} />;
  return <Ranges key={`${found.snapshot} ${found.script} ${found.started}`} project={project} found={found} args={args} first={first} start={start} />;
}

const samplers = [
  { value: "tpe", label: "TPE: learns from trials" }, { value: "gp", label: "Gaussian process: few, costly trials" }, { value: "random", label: "Random" },
  { value: "qmc", label: "Quasi-random: even cover" }, { value: "grid", label: "Grid: every combination" }, { value: "nsga2", label: "NSGA-II: evolution" },
];
const pruners = [
  { value: "none", label: "None: every trial to its end" }, { value: "median", label: "Median: stop what is below the middle" }, { value: "asha", label: "ASHA: keep the best thirds" },
  { value: "hyperband", label: "Hyperband" }, { value: "percentile", label: "Percentile" },
];

/** Reading does not see what a script declares in code it does not follow; starting it up to where it trains does. */
function StartIt({ discovery, busy, onStart }: { discovery: Discovery; busy: boolean; onStart: () => void }) {
  return (
    <div className={css.start}>
      <p>{discovery.is_open ? "The script declares more by code that reading does not follow. " : ""}Starting it in a copy of its folder, for at most {count(discovery.start_seconds)} seconds and only up to where it trains, confirms what was read and finds the rest.</p>
      <Button variant={discovery.is_open ? "filled" : "default"} leftSection={<IconPlayerPlay size={14} />} loading={busy} onClick={onStart}>Start it to see</Button>
    </div>
  );
}

function Ranges({ project, found, args, first, start }: { project: string; found: Found; args: string; first: React.ReactNode; start: React.ReactNode }) {
  const navigate = useNavigate();
  const { discovery } = found;
  const [chosen, setChosen] = useState<Set<string>>(new Set(discovery.tunable));
  const [space, setSpace] = useState<Record<string, Parameter>>(() => Object.fromEntries(discovery.parameters.map((each) => [each.name, (each.proposal as Parameter | null) ?? fallback(each)])));
  const best = discovery.metrics.find((metric) => metric.monitored) ?? discovery.metrics[0];
  const parameters = useMemo(() => discovery.parameters.filter((each) => chosen.has(each.name)).map((each) => space[each.name]).filter((each) => each !== undefined), [discovery, chosen, space]);
  const form = useForm(
    { name: "", metric: best?.name ?? "", direction: best?.direction ?? (/acc|auc|f1|score/.test(best?.name ?? "") ? "maximize" : "minimize"), sampler: "tpe", pruner: "none", trials: 20, hours: 0, parallel: 2, cpu: 1, gpu: 0 },
    async (values) => {
      if (parameters.length === 0) throw new Problem({ status: 422, field: "space", detail: "Nothing would be searched.", remedy: "Choose at least one parameter." });
      return post<{ id: string }>(`/api/v1/projects/${seg(project)}/studies`, {
        name: values.name,
        script: found.script,
        snapshot: found.snapshot,
        arguments: words(args),
        metric: values.metric,
        direction: values.direction,
        space: parameters,
        only_space: true,
        bindings: Object.fromEntries(discovery.parameters.filter((each) => chosen.has(each.name)).map((each) => [each.name, each.passing])),
        sampler: values.sampler,
        pruner: values.pruner,
        budget: { trials: values.trials || null, seconds: values.hours > 0 ? values.hours * 3600 : null },
        parallel: values.parallel,
        resources: { cpu: values.cpu, gpu: values.gpu },
      });
    },
    ({ id }) => void navigate({ to: `/p/${seg(project)}/tuning/${id}` as never }),
  );
  const { values, set, error } = form;
  const errors = {
    name: error("name"), metric: error("metric"), direction: error("direction"), sampler: error("sampler"), pruner: error("pruner"), trials: error("budget.trials") ?? error("budget"),
    parallel: error("parallel"), cpu: error("resources.cpu"), gpu: error("resources.gpu"),
  };
  const ofParameter = new Map(discovery.parameters.map((each) => [each.name, error(`space.${each.name}`)]));
  const invalid = parameters.some((parameter) => wrong(parameter));
  const points = size(parameters);
  const proposed = new Map(discovery.parameters.filter((each) => each.proposal).map((each) => [each.name, each.proposal as unknown as Parameter]));
  const flags = {
    metric: values.metric, [values.direction]: "yes", sampler: values.sampler === "tpe" ? "" : values.sampler, pruner: values.pruner === "none" ? "" : values.pruner,
    trials: values.trials, time: values.hours > 0 ? `${values.hours}h` : "", parallel: values.parallel, gpu: values.gpu, name: values.name, project,
  };
  const rest = form.rest();
  const notes = discovery.is_open && start ? discovery.notes.slice(0, -1) : discovery.notes; // the button says what the last one says
  const note = found.started && notes.length === 0 ? "Confirmed by starting the script" : notes.join(" ");
  const settings = (
    <Panel title="3 · Goal and budget">
      <div className={css.fields}>
        <TextInput label="Name" placeholder="named after the script" value={values.name} onChange={(event) => set("name", event.currentTarget.value)} error={errors.name} />
        <div className={css.two}>
          <Autocomplete label="Metric" placeholder="val_loss" required data={[...new Set(discovery.metrics.map((each) => each.name))]} value={values.metric} onChange={(value) => set("metric", value)} error={errors.metric} />
          <Select label="Better is" data={[{ value: "minimize", label: "less" }, { value: "maximize", label: "more" }]} value={values.direction} onChange={(value) => set("direction", value ?? "minimize")} error={errors.direction} />
        </div>
        <Select label="Sampler" data={samplers} value={values.sampler} onChange={(value) => set("sampler", value ?? "tpe")} error={errors.sampler} />
        <Select label="Pruner" data={pruners} value={values.pruner} onChange={(value) => set("pruner", value ?? "none")} error={errors.pruner} />
        <div className={css.two}>
          <NumberInput label="Trials" min={1} value={values.trials} onChange={(value) => set("trials", Number(value) || 0)} error={errors.trials} />
          <NumberInput label="At most, hours" min={0} placeholder="no limit" value={values.hours || ""} onChange={(value) => set("hours", Number(value) || 0)} error={error("budget.seconds")} />
          <NumberInput label="At once" min={1} value={values.parallel} onChange={(value) => set("parallel", Number(value) || 1)} error={errors.parallel} />
          <NumberInput label="GPUs a trial" min={0} value={values.gpu} onChange={(value) => set("gpu", Number(value) || 0)} error={errors.gpu} />
        </div>
      </div>
    </Panel>
  );
  return (
    <form onSubmit={(event) => { event.preventDefault(); form.send(); }}>
      <Title note={<>{plural(chosen.size, "parameter")} of {discovery.parameters.length} found in <code>{found.script}</code>{points !== null && ` · ${count(points)} combinations`}</>} actions={<Button type="submit" loading={form.busy} disabled={invalid}>Start the search</Button>}>New study</Title>
      <div className={grid.grid}>
        <div className={`${grid.w8} ${grid.stack}`}>
          {rest && <div className={css.problem}><Failure error={rest} /></div>}
          {first}
          <Panel title="2 · Parameters and ranges" note={note} flush>
            {start}
            {discovery.parameters.map((each) => (
              <ParameterRow
                key={each.name} found={each} chosen={chosen.has(each.name)} parameter={space[each.name] ?? fallback(each)} problem={ofParameter.get(each.name)}
                onChosen={(on) => setChosen((now) => { const next = new Set(now); if (on) next.add(each.name); else next.delete(each.name); return next; })}
                onChange={(parameter) => setSpace((now) => ({ ...now, [each.name]: parameter }))}
              />
            ))}
          </Panel>
        </div>
        <div className={`${grid.w4} ${grid.stack}`}>
          {settings}
          <Panel title="The same from a terminal"><Command text={command(found.script, parameters, proposed, flags, words(args))} /></Panel>
        </div>
      </div>
    </form>
  );
}

function fallback(found: FoundParameter): Parameter {
  const { name, choices } = found;
  if (choices.length > 1) return { name, type: "categorical", choices: choices as (string | number)[] };
  const start = typeof found.default === "number" ? found.default : 1;
  if (found.type === "bool") return { name, type: "bool" };
  if (found.type === "int") return { name, type: "int", low: Math.max(1, Math.floor(start / 4)), high: Math.max(4, start * 4), scale: "linear" };
  if (found.type === "float") return { name, type: "float", low: start > 0 ? start / 10 : 0, high: start > 0 ? start * 10 : 1, scale: start > 0 ? "log" : "linear" };
  return { name, type: "categorical", choices: found.default !== null && found.default !== undefined ? [String(found.default)] : [] };
}

function ParameterRow({ found, chosen, parameter, problem, onChosen, onChange }: {
  found: FoundParameter; chosen: boolean; parameter: Parameter; problem: string | undefined; onChosen: (on: boolean) => void; onChange: (parameter: Parameter) => void;
}) {
  const fault = chosen ? (problem ?? wrong(parameter)) : null;
  const set = (more: Partial<Parameter>) => onChange({ ...parameter, ...more });
  const scales = parameter.type === "int" ? ["linear", "log", "pow2"] : ["linear", "log"];
  return (
    <div className={css.parameter} data-off={chosen ? undefined : ""} data-parameter={found.name}>
      <Checkbox aria-label={`Search ${found.name}`} checked={chosen} onChange={(event) => onChosen(event.currentTarget.checked)} />
      <div className={css.name}>
        <code>{found.name}</code>
        <p>{found.help || `${found.type}${found.default !== null && found.default !== undefined ? `, ${String(found.default)} by itself` : ""}`}</p>
      </div>
      {!chosen ? <span className={css.left}>{found.left_alone || "Stays as it is."}</span>
        : parameter.type === "bool" ? <span className={css.left}>true or false</span>
        : parameter.type === "categorical" ? <TagsInput aria-label={`Choices of ${found.name}`} value={(parameter.choices ?? []).map(String)} onChange={(list) => set({ choices: list.map((text) => typed(text, found.type)) })} />
        : (
          <div className={css.range}>
            <NumberInput aria-label={`Lower end of ${found.name}`} value={parameter.low ?? ""} hideControls onChange={(value) => set({ low: end(value) })} decimalScale={12} />
            <NumberInput aria-label={`Upper end of ${found.name}`} value={parameter.high ?? ""} hideControls onChange={(value) => set({ high: end(value) })} decimalScale={12} />
            <Select aria-label={`Scale of ${found.name}`} data={scales.map((scale) => ({ value: scale, label: { linear: "linear", log: "log", pow2: "powers of 2" }[scale] ?? scale }))} value={parameter.scale ?? "linear"} onChange={(scale) => set({ scale: scale ?? "linear" })} />
          </div>
        )}
      <div className={css.drawn}>
        {chosen && !fault && parameter.type !== "categorical" && parameter.type !== "bool" && <div className={css.preview} role="img" aria-label={`How values of ${found.name} are drawn between its ends`}>{density(parameter).map((each, i) => <i key={i} style={{ height: `${each * 100}%` }} />)}</div>}
        {chosen && !fault && parameter.type !== "bool" && <div className={css.examples} title={examples(parameter).join(" ")}>{examples(parameter).join(" ")}</div>}
      </div>
      {fault && <p className={css.error} role="alert">{fault}</p>}
    </div>
  );
}

const end = (written: string | number): number | undefined => (written === "" ? undefined : Number(written));
const typed = (text: string, type: string): string | number | boolean => (type === "bool" ? text.toLowerCase() === "true" : (type === "int" || type === "float") && text !== "" && Number.isFinite(Number(text)) ? Number(text) : text);
