/** Start a run from the browser: a folder of code or a repository, a script in it, arguments, resources, data. */
import { Button, Checkbox, NumberInput, Select, TagsInput, TextInput, Textarea } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState } from "react";
import { post, Problem, seg } from "~/api/client";
import type { WorkloadDetail } from "~/api/types";
import { workloadQuery } from "~/api/workloads";
import { useForm } from "~/form/useForm";
import { Command, Failure, Panel } from "~/shell/Panel";
import { Title } from "~/shell/Title";
import { CodeSource, mainScript, type Code } from "./Code";
import { line, words } from "./words";
import grid from "~/shell/Grid.module.css";
import css from "./NewRun.module.css";

export function NewRun() {
  const { from } = useSearch({ strict: false }) as { from?: string };
  const earlier = useQuery({ ...workloadQuery(from ?? ""), enabled: Boolean(from) });
  if (from && earlier.isPending) return <div aria-busy="true" style={{ height: 400 }} />;
  return <Form key={from ?? ""} earlier={earlier.data ?? null} />;
}

const GIB = 1024 ** 3;
const mono = { input: { fontFamily: "var(--mono)" } };

function Form({ earlier }: { earlier: WorkloadDetail | null }) {
  const { project } = useParams({ strict: false }) as { project: string };
  const navigate = useNavigate();
  const [code, setCode] = useState<Code | null>(null);
  const [progress, setProgress] = useState<number | null>(null);
  const form = useForm(
    {
      name: earlier?.name ?? "",
      script: earlier?.script ?? "",
      args: line(earlier?.arguments ?? []),
      command: line(earlier?.command ?? []),
      experiment: "",
      data: earlier?.data ?? ([] as string[]),
      cpu: earlier?.resources.cpu ?? 1,
      memory: (earlier?.resources.memory_bytes ?? 0) / GIB,
      gpu: earlier?.resources.gpu ?? 0,
      replicas: earlier?.replicas ?? 1,
      priority: earlier?.priority ?? 0,
      hours: (earlier?.time_limit_seconds ?? 0) / 3600,
      preemptible: earlier?.preemptible ?? true,
      requirements: "",
    },
    async (values) => {
      let snapshot = earlier?.snapshot ?? null;
      if (code) {
        setProgress(0);
        try {
          snapshot = await code.snapshot(project, setProgress);
        } finally {
          setProgress(null);
        }
      }
      if (values.script && !snapshot) throw new Problem({ status: 422, field: "snapshot", detail: "The script needs its folder.", remedy: "Choose the folder that holds it, or fetch a repository." });
      return post<{ id: string }>(`/api/v1/projects/${seg(project)}/workloads`, {
        name: values.name,
        script: values.script || null,
        arguments: words(values.args),
        command: values.script ? [] : words(values.command),
        snapshot,
        experiment: values.experiment,
        data: values.data,
        resources: { cpu: values.cpu, memory_bytes: Math.round(values.memory * GIB), gpu: values.gpu },
        replicas: values.replicas,
        priority: values.priority,
        preemptible: values.preemptible,
        time_limit_seconds: values.hours > 0 ? values.hours * 3600 : null,
        requirements: values.requirements,
        code: code?.origin ?? {},
      });
    },
    ({ id }) => void navigate({ to: `/p/${seg(project)}/workloads/${id}` as never }),
  );
  const { values, set, error } = form;
  const scripts = useMemo(() => (code?.paths ?? []).filter((path) => path.endsWith(".py")), [code]);
  useEffect(() => {
    if (scripts.length > 0 && !scripts.includes(values.script)) set("script", mainScript(scripts));
    // Only when another folder is chosen.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [scripts]);
  const number = (key: "cpu" | "memory" | "gpu" | "replicas" | "priority" | "hours", label: string, field: string, { nothing, ...rules }: { min?: number; step?: number; nothing?: string } = {}) => (
    <NumberInput label={label} value={nothing && values[key] === 0 ? "" : values[key]} {...(nothing ? { placeholder: nothing } : {})} onChange={(value) => set(key, Number(value) || 0)} error={error(field)} {...rules} />
  );
  const equivalent = ["narf run", values.script || "train.py", values.gpu ? `--gpu ${values.gpu}` : "", values.cpu !== 1 ? `--cpu ${values.cpu}` : "", values.memory ? `--memory ${values.memory}Gi` : "", `--project ${project}`, values.args ? `-- ${values.args}` : ""].filter(Boolean).join(" ");
  const fields = (
    <>
      <Panel title="Code">
        <div className={css.fields}>
          <CodeSource project={project} onCode={setCode} note={earlier?.snapshot ? `The code of the earlier run (${earlier.snapshot.slice(0, 12)})` : "Everything in it is kept with the run, so that it can be repeated."} />
          {error("snapshot") && <p className={css.error}>{error("snapshot")}</p>}
          {scripts.length > 0
            ? <Select label="Script" data={scripts} value={values.script} onChange={(value) => set("script", value ?? "")} searchable error={error("script")} />
            : <TextInput label="Script" placeholder="train.py" value={values.script} onChange={(event) => set("script", event.currentTarget.value)} error={error("script")} />}
          <TextInput label="Arguments" styles={mono} placeholder="--lr 0.01 --epochs 20" value={values.args} onChange={(event) => set("args", event.currentTarget.value)} error={error("arguments")} />
          {!values.script && <TextInput label="Or any command" styles={mono} placeholder="python -c 'print(1)'" value={values.command} onChange={(event) => set("command", event.currentTarget.value)} error={error("command")} />}
          <Textarea label="Packages" description="As in requirements.txt; empty uses the platform's own" autosize minRows={1} maxRows={8} value={values.requirements} onChange={(event) => set("requirements", event.currentTarget.value)} error={error("requirements")} />
          <TagsInput label="Data" description="Such as digits@latest" placeholder={values.data.length ? "" : "name@version"} value={values.data} onChange={(value) => set("data", value)} error={error("data")} />
        </div>
      </Panel>
      <Panel title="What it needs">
        <div className={css.numbers}>
          {number("gpu", "GPUs", "resources.gpu", { min: 0, step: 1 })}
          {number("cpu", "CPU cores", "resources.cpu", { min: 0, step: 1 })}
          {number("memory", "Memory, GiB", "resources.memory_bytes", { min: 0, step: 1, nothing: "no limit" })}
          {number("replicas", "Replicas", "replicas", { min: 1 })}
          {number("hours", "Time limit, hours", "time_limit_seconds", { min: 0, nothing: "no limit" })}
          {number("priority", "Priority", "priority", { min: -100 })}
        </div>
        <Checkbox mt={14} label="May be preempted: it gives way to more urgent work and resumes by itself" checked={values.preemptible} onChange={(event) => set("preemptible", event.currentTarget.checked)} />
      </Panel>
    </>
  );
  const naming = (
    <Panel title="Name">
      <div className={css.fields}>
        <TextInput label="Run" placeholder="named after the script" value={values.name} onChange={(event) => set("name", event.currentTarget.value)} error={error("name")} />
        <TextInput label="Experiment" placeholder="the default one" value={values.experiment} onChange={(event) => set("experiment", event.currentTarget.value)} error={error("experiment")} />
      </div>
    </Panel>
  );
  const rest = form.rest();
  return (
    <form onSubmit={(event) => { event.preventDefault(); form.send(); }}>
      <Title note={earlier ? <>Like <code>{earlier.name}</code>: the same code, data and resources</> : "Tracked, scheduled and resumable, without a change to the script"}
        actions={<Button type="submit" loading={form.busy}>{progress !== null ? `Sending ${Math.round(progress * 100)}%` : "Start"}</Button>}>New run</Title>
      <div className={grid.grid}>
        <div className={`${grid.w8} ${grid.stack}`}>
          {rest && <div className={css.problem}><Failure error={rest} /></div>}
          {fields}
        </div>
        <div className={`${grid.w4} ${grid.stack}`}>
          {naming}
          <Panel title="The same from a terminal"><Command text={equivalent} /></Panel>
        </div>
      </div>
    </form>
  );
}
