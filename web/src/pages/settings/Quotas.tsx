/** What a queue is guaranteed, may hold at most, and how much of what is left it gets. Admins change it; everybody sees it. */
import { Alert, Button, NumberInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { put, remove, seg } from "~/api/client";
import { clusterQuery, quotasQuery, type Quota } from "~/api/cluster";
import { done } from "~/api/query";
import { useMe } from "~/api/session";
import { Confirm } from "~/form/Confirm";
import { useForm } from "~/form/useForm";
import { value } from "~/format/number";
import { Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { amounts, RESOURCES, shownAs, type Drafts } from "./amounts";
import css from "./Settings.module.css";

const called = (queue: string) => queue.replace(/^department:/, "");

/** The quota of one project, and above it that of its department. */
export function ProjectQuota({ project }: { project: string }) {
  const query = useQuery(quotasQuery);
  const me = useMe();
  return (
    <Loaded query={query} height={260}>
      {(quotas) => {
        const own = quotas.find((quota) => quota.queue === project);
        const parent = quotas.find((quota) => quota.queue === own?.parent);
        if (!own) return <Panel><Empty title="Nothing has been set" command={`narf quota show ${project}`} /></Panel>;
        return (
          <div className={css.quotas}>
            <QuotaForm key={own.queue} quota={own} title={`Project ${project}`} editable={Boolean(me?.is_admin)} />
            {parent && <QuotaForm key={parent.queue} quota={parent} title={`Department ${called(parent.queue)}`} editable={Boolean(me?.is_admin)} />}
          </div>
        );
      }}
    </Loaded>
  );
}

/** All queues, for admins. */
export function AllQuotas() {
  const query = useQuery(quotasQuery);
  return <Loaded query={query} height={300}>{(quotas) => <div className={css.quotas}>{quotas.map((quota) => <QuotaForm key={quota.queue} quota={quota} title={quota.parent ? `Project ${quota.queue}` : `Department ${called(quota.queue)}`} editable />)}</div>}</Loaded>;
}

function QuotaForm({ quota, title, editable }: { quota: Quota; title: string; editable: boolean }) {
  const client = useQueryClient();
  const cluster = useQuery(clusterQuery);
  const [warnings, setWarnings] = useState<readonly string[]>([]);
  const path = `/api/v1/quotas/${seg(quota.queue)}`;
  const { quota: guaranteed = {}, limit = {} } = quota;
  const refresh = () => { void client.invalidateQueries({ queryKey: ["quotas"] }); void client.invalidateQueries({ queryKey: ["cluster"] }); };
  const form = useForm(
    { quota: shownAs(guaranteed), limit: shownAs(limit), weight: quota.weight as number | "" },
    (values) => put<Quota>(path, { quota: amounts(values.quota, guaranteed), limit: amounts(values.limit, limit), weight: values.weight === "" ? 1 : values.weight }),
    (saved) => { setWarnings(saved.warnings ?? []); refresh(); done(`The quota of ${called(quota.queue)} is set.`); },
  );
  const held = cluster.data?.queues.find((queue) => queue.name === quota.queue)?.held ?? {};
  const set = (noun: "quota" | "limit", resource: string, each: number | string) => form.set(noun, { ...form.values[noun], [resource]: each === "" ? "" : Number(each) } as Drafts);
  const rows = RESOURCES.map(({ key, label, unit }) => ({
    key, label,
    held: value((held[key] ?? 0) / unit, 4),
    inputs: (["quota", "limit"] as const).map((noun) => ({ noun, error: form.error(`${noun}.${key}`) })),
  }));
  const weightError = form.error("weight");
  const rest = form.rest();
  const isSet = Object.keys(guaranteed).length > 0 || Object.keys(limit).length > 0 || quota.weight !== 1;
  return (
    <Panel title={title} flush>
      <form onSubmit={(event) => { event.preventDefault(); form.send(); }}>
        <div className={css.scroll} tabIndex={0} role="region" aria-label={`Quota of ${title}`}>
          <table className={css.amounts}>
            <thead><tr><th>Resource</th><th className="num">Held now</th><th>Guaranteed (quota)</th><th>At most (limit)</th></tr></thead>
            <tbody>
              {rows.map(({ key, label, held: now, inputs }) => (
                <tr key={key}>
                  <th scope="row">{label}</th><td className="num">{now}</td>
                  {inputs.map(({ noun, error }) => (
                    <td key={noun}>
                      {editable
                        ? <NumberInput aria-label={`${noun === "quota" ? "Quota" : "Limit"} of ${label}`} placeholder={noun === "quota" ? "none" : "no limit"} hideControls value={form.values[noun][key] ?? ""} onChange={(each) => set(noun, key, each)} error={error} />
                        : form.values[noun][key] === undefined || form.values[noun][key] === "" ? <span className="dim">{noun === "quota" ? "none" : "no limit"}</span> : value(form.values[noun][key] as number, 6)}
                    </td>
                  ))}
                </tr>
              ))}
              <tr>
                <th scope="row">Weight</th><td />
                <td>{editable ? <NumberInput aria-label={`Weight of ${title}`} hideControls value={form.values.weight} onChange={(each) => form.set("weight", each === "" ? "" : Number(each))} error={weightError} /> : value(quota.weight, 4)}</td>
                <td className="dim">its part of what nobody is guaranteed</td>
              </tr>
            </tbody>
          </table>
        </div>
        {rest && <Failure error={rest} />}
        {warnings.length > 0 && <Alert m={12} variant="light" color="yellow" title="Set, but look at this">{warnings.map((warning) => <p key={warning}>{warning}</p>)}</Alert>}
        {editable ? (
          <div className={css.save}>
            {isSet && <Confirm title={`Take the quota of ${called(quota.queue)} away?`} action="Take away" onYes={() => void remove(path).then(refresh)} trigger={(open) => <Button variant="default" onClick={open}>Take away</Button>}>What runs goes on; from the next decision on it shares like any other.</Confirm>}
            <Button type="submit" loading={form.busy}>Save</Button>
          </div>
        ) : <p className={css.hint}>An admin of the platform sets this.</p>}
      </form>
    </Panel>
  );
}
