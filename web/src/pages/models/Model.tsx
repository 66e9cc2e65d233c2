/** One model: its versions, what they are packaged as and why, where they come from, and deploying them. */
import { ActionIcon, Badge, Button, Group, Modal, NumberInput, Select, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconRocket, IconTag, IconX } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { post, put, remove, seg } from "~/api/client";
import { lineageQuery, modelQuery, modelsPath, type ModelDetail, type ModelVersion } from "~/api/serving";
import { Confirm } from "~/form/Confirm";
import { useForm } from "~/form/useForm";
import { bytes, value } from "~/format/number";
import { useRefreshNoun } from "~/live/useLive";
import { Failure, Loaded, Panel } from "~/shell/Panel";
import { State } from "~/shell/State";
import { Ago } from "~/shell/Time";
import { Facts, Title } from "~/shell/Title";
import { Lineage } from "./Lineage";
import grid from "~/shell/Grid.module.css";
import css from "./Model.module.css";

export function ModelPage() {
  const { project, name } = useParams({ strict: false }) as { project: string; name: string };
  const query = useQuery(modelQuery(project, name));
  useRefreshNoun(project, "models", ["model", project, name]);
  return <Loaded query={query} height={480}>{(model) => <Shown model={model} project={project} />}</Loaded>;
}

function Shown({ model, project }: { model: ModelDetail; project: string }) {
  const params = useParams({ strict: false }) as { version?: string };
  const shown = model.versions.find((version) => String(version.version) === params.version) ?? model.versions[0];
  return (
    <>
      <Title note={model.description || `${model.versions.length} ${model.versions.length === 1 ? "version" : "versions"}`} actions={shown && <Deploy model={model} version={shown} project={project} />}>{model.name}</Title>
      <div className={grid.grid}>
        <Panel title="Versions" className={grid.w4 ?? ""} flush>
          <ul className={css.versions}>
            {model.versions.map((version) => (
              <li key={version.version}>
                <Link to={`/p/${seg(project)}/models/${seg(model.name)}/${version.version}` as "/home"} aria-current={version === shown || undefined}>
                  <b>{version.version}</b>
                  <span className={css.aliases}>{version.aliases.map((alias) => <Badge key={alias} variant="light" tt="none" fw={500}>{alias}</Badge>)}</span>
                  <State state={version.package?.state ?? "pending"} />
                  <span className="dim"><Ago at={version.created_at} /></span>
                </Link>
              </li>
            ))}
          </ul>
        </Panel>
        <div className={`${grid.w8} ${grid.stack}`}>{shown && <Version version={shown} model={model} project={project} key={shown.version} />}</div>
      </div>
    </>
  );
}

function Version({ version, model, project }: { version: ModelVersion; model: ModelDetail; project: string }) {
  const lineage = useQuery(lineageQuery(project, model.name, version.version));
  const own = version.package;
  return (
    <>
      <Panel title={<h2>Version {version.version}</h2>} note={version.description} actions={<Aliases version={version} model={model} project={project} />}>
        <Facts facts={[
          ["Made by", version.created_by],
          ["Run", version.run_id && <Link className="link" to={`/p/${seg(project)}/runs/${version.run_id}` as "/home"}>{lineage.data?.run_name ?? version.run_id}</Link>],
          ["Source", <code key="s">{version.source}</code>],
          ["Tags", Object.entries(version.tags).map(([name, text]) => `${name}=${text}`).join(", ")],
        ]} />
      </Panel>
      <Panel title="Package" actions={own && <State state={own.state} />}>
        {own === null ? <p className="dim">It is not packaged yet.</p> : own.error ? <><Failure error={new Error(own.error)} />{own.workload_id && <Link className="link" to={`/p/${seg(project)}/workloads/${own.workload_id}` as "/home"}>The output of its packaging</Link>}</> : (
          <>
            <Facts facts={[
              ["Runtime", own.runtime], ["Size", own.size_bytes === null ? null : bytes(own.size_bytes)],
              ["Packaged by", own.workload_id && <Link className="link" to={`/p/${seg(project)}/workloads/${own.workload_id}` as "/home"}>{own.workload_id}</Link>],
              ["Signature", own.signature && <details><summary>inputs and outputs</summary><pre className={css.json}>{JSON.stringify(own.signature, null, 2)}</pre></details>],
            ]} />
            {own.evidence && <Evidence evidence={own.evidence} />}
          </>
        )}
      </Panel>
      <Panel title="Lineage"><Loaded query={lineage} height={160}>{(data) => <Lineage lineage={data} model={model.name} version={version.version} project={project} />}</Loaded></Panel>
    </>
  );
}

/** What the package's words mean to a person, with the unit. */
const words: Record<string, string> = {
  memory_bytes: "takes in memory", growth_allowed_bytes: "may grow by, until it is replaced", batch_rows: "rows of a batch", inputs: "compared on", rows: "rows compared",
  worst: "worst, of tolerance", max_abs_error: "largest difference", milliseconds_one: "1 row, ms", milliseconds_batch: "a batch, ms", refused: "not taken, because it",
};
const said = (name: string): string => words[name] ?? name.replaceAll("_", " ");

/** Why this runtime: the ones that were tried, whether they answered the same, and how fast. */
function Evidence({ evidence }: { evidence: Record<string, unknown> }) {
  const tried = (Array.isArray(evidence["candidates"]) ? evidence["candidates"] : Array.isArray(evidence["attempts"]) ? evidence["attempts"] : []) as Record<string, unknown>[];
  const rest = Object.entries(evidence).filter(([, each]) => typeof each !== "object" && each !== "");
  const heads = [...new Set(tried.flatMap((each) => Object.keys(each).filter((key) => typeof each[key] !== "object")))];
  return (
    <div className={css.evidence}>
      <h3>Evidence</h3>
      {rest.length > 0 && <Facts facts={rest.map(([name, each]) => [said(name), name.endsWith("_bytes") ? bytes(Number(each)) : typeof each === "number" ? value(each) : String(each)] as const)} />}
      {tried.length > 0 && (
        <div className={css.scroll} tabIndex={0} role="region" aria-label="Runtimes that were tried">
          <table>
            <thead><tr>{heads.map((head) => <th key={head}>{said(head)}</th>)}</tr></thead>
            <tbody>{tried.map((each, i) => <tr key={i}>{heads.map((head) => <td key={head} data-long={head === "refused" || undefined}>{typeof each[head] === "number" ? value(each[head] as number, 3) : String(each[head] || "–")}</td>)}</tr>)}</tbody>
          </table>
        </div>
      )}
      <details><summary>All of it</summary><pre className={css.json}>{JSON.stringify(evidence, null, 2)}</pre></details>
    </div>
  );
}

function Aliases({ version, model, project }: { version: ModelVersion; model: ModelDetail; project: string }) {
  const [draft, setDraft] = useState<string | null>(null);
  const client = useQueryClient();
  const path = `${modelsPath(project)}/${seg(model.name)}/aliases`;
  const change = useMutation({ mutationFn: (action: () => Promise<unknown>) => action(), onSuccess: () => { setDraft(null); void client.invalidateQueries({ queryKey: ["model", project, model.name] }); } });
  return (
    <Group gap={6}>
      {version.aliases.map((alias) => (
        <Confirm
          key={alias} title={`Take ${alias} away?`} action="Take away" onYes={() => change.mutate(() => remove(`${path}/${seg(alias)}`))}
          trigger={(open) => <Badge variant="light" tt="none" fw={500} rightSection={<ActionIcon size={14} variant="transparent" aria-label={`Take alias ${alias} away`} onClick={open}><IconX size={11} /></ActionIcon>}>{alias}</Badge>}
        >Endpoints that follow it stay at what they serve.</Confirm>
      ))}
      {draft === null ? <Button variant="default" size="compact-xs" leftSection={<IconTag size={12} />} onClick={() => setDraft("")}>Alias</Button> : (
        <form onSubmit={(event) => { event.preventDefault(); change.mutate(() => put(`${path}/${seg(draft)}`, { version: version.version })); }}>
          <TextInput aria-label="Alias" placeholder="champion, then Enter" autoFocus w={170} value={draft} onChange={(event) => setDraft(event.currentTarget.value)} onBlur={() => draft === "" && setDraft(null)} onKeyDown={(event) => event.key === "Escape" && setDraft(null)} />
        </form>
      )}
    </Group>
  );
}

function Deploy({ model, version, project }: { model: ModelDetail; version: ModelVersion; project: string }) {
  const [opened, { open, close }] = useDisclosure(false);
  const navigate = useNavigate();
  const choices = [{ value: `${model.name}/${version.version}`, label: `Version ${version.version}` }, ...version.aliases.map((alias) => ({ value: `${model.name}@${alias}`, label: `Whatever is ${alias} (follows it)` }))];
  const form = useForm(
    { name: model.name, model: choices[0]?.value ?? "", least: 1, most: 2, canary: "" },
    ({ canary, ...values }) => post<{ name: string }>(`/api/v1/projects/${seg(project)}/endpoints`, { ...values, ...(canary ? { canary: canary.split(/[,\s]+/).filter(Boolean).map(Number) } : {}) }),
    ({ name }) => void navigate({ to: `/p/${seg(project)}/endpoints/${seg(name)}` as never }),
  );
  const errors = { name: form.error("name"), model: form.error("model"), least: form.error("least"), most: form.error("most"), canary: form.error("canary") };
  const rest = form.rest();
  return (
    <>
      <Button leftSection={<IconRocket size={14} />} onClick={open} disabled={version.package?.state === "failed"}>Deploy</Button>
      <Modal opened={opened} onClose={close} title={`Deploy ${model.name}`} size="sm" closeButtonProps={{ "aria-label": "Close" }}>
        <form className={css.fields} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
          <TextInput data-autofocus label="Endpoint" description="A name that exists gets a new revision" value={form.values.name} onChange={(event) => form.set("name", event.currentTarget.value)} error={errors.name} />
          <Select label="Serves" data={choices} value={form.values.model} onChange={(each) => form.set("model", each ?? "")} error={errors.model} />
          <Group grow>
            <NumberInput label="Least replicas" description="0 sleeps when idle" min={0} value={form.values.least} onChange={(each) => form.set("least", Number(each))} error={errors.least} />
            <NumberInput label="Most replicas" description="under load" min={1} value={form.values.most} onChange={(each) => form.set("most", Number(each))} error={errors.most} />
          </Group>
          <TextInput label="Canary steps, %" description="Share of traffic, step by step; empty switches at once" placeholder="5, 25, 50" value={form.values.canary} onChange={(event) => form.set("canary", event.currentTarget.value)} error={errors.canary} />
          {rest && <Failure error={rest} />}
          <Group justify="flex-end"><Button type="submit" loading={form.busy}>Deploy</Button></Group>
        </form>
      </Modal>
    </>
  );
}
