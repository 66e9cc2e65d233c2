/** The machines and who holds them: nodes with their GPUs, queues with their shares, and what would be if. */
import { Button, NumberInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { post, seg } from "~/api/client";
import { clusterQuery, type Cluster as ClusterState, type WhatIf } from "~/api/cluster";
import { useMe } from "~/api/session";
import { bytes, count, percent, plural, value } from "~/format/number";
import { duration } from "~/format/time";
import { useForm } from "~/form/useForm";
import { Empty, Failure, Loaded, Panel } from "~/shell/Panel";
import { Meter } from "~/shell/Meter";
import { Title } from "~/shell/Title";
import { largestGang } from "./fragments";
import grid from "~/shell/Grid.module.css";
import css from "./Cluster.module.css";

export function Cluster() {
  const query = useQuery(clusterQuery);
  const me = useMe();
  return (
    <>
      <Title note="Nodes, GPUs, queues and their shares, as they are now">Cluster</Title>
      <Loaded query={query} height={420}>
        {(cluster) => (
          <div className={grid.grid}>
            <div className={grid.w3}><Meter label="GPUs in use" value={value(cluster.gpus - cluster.gpus_free, 4)} unit={`of ${value(cluster.gpus, 4)}`} share={cluster.gpus ? 1 - cluster.gpus_free / cluster.gpus : 0} tone="good" note={`${value(cluster.gpus_free, 4)} free`} /></div>
            <div className={grid.w3}><Meter label="Queue" value={count(cluster.waiting)} unit="waiting" tone="warn" share={cluster.waiting ? 1 : 0} note={cluster.waiting ? "Each says why it waits" : "Nothing waits"} /></div>
            <div className={grid.w3}><Meter label="CPU cores in use" value={value(sum(cluster.nodes.map((node) => node.cpu - node.cpu_free)), 3)} unit={`of ${value(sum(cluster.nodes.map((node) => node.cpu)), 4)}`} tone="info" share={share(cluster)} note={`${cluster.nodes.filter((node) => node.schedulable).length} of ${plural(cluster.nodes.length, "node")} take work`} /></div>
            <div className={grid.w3}><Meter label="Fragmentation" value={percent(fragmentation(cluster))} tone="accent" share={fragmentation(cluster)} note={`at most ${largestGang(cluster.nodes)} free GPUs on one node`} /></div>
            <Panel title="GPUs by node" className={grid.w12 ?? ""} note={<span className={css.key}><i data-full="" aria-hidden /> in use <i aria-hidden /> free</span>}>
              <div className={css.nodes}>
                {cluster.nodes.map((node) => (
                  <div key={node.name} className={css.node} data-closed={node.schedulable ? undefined : ""}>
                    <div className={css.name}><b className="truncate">{node.name}</b><span className="dim">{node.flavor}</span></div>
                    <div className={css.gpus} role="img" aria-label={`${node.name}: ${node.gpus.filter((gpu) => gpu.free >= 1).length} of ${node.gpus.length} GPUs free`}>
                      {node.gpus.map((gpu) => <i key={gpu.index} data-gpu="" title={`GPU ${gpu.index}: ${percent(1 - gpu.free)} used${gpu.workloads.filter(Boolean).length ? ` by ${gpu.workloads.filter(Boolean).join(", ")}` : ""}`} style={{ background: `color-mix(in srgb, var(--accent) ${Math.round((1 - gpu.free) * 100)}%, var(--raised))` }} />)}
                      {node.gpus.length === 0 && <span className="dim">no GPU</span>}
                    </div>
                    <span className="dim">{value(node.cpu - node.cpu_free, 3)} of {value(node.cpu, 3)} CPU</span>
                    <span className="dim">{bytes(node.memory_bytes - node.memory_free_bytes)} of {bytes(node.memory_bytes)}</span>
                  </div>
                ))}
                {cluster.nodes.length === 0 && <Empty title="No node takes work" command="narf doctor" />}
              </div>
            </Panel>
            <Panel title="Queues and shares" className={(me?.is_admin ? grid.w8 : grid.w12) ?? ""} flush actions={me?.is_admin ? <Link className="link" to={"/admin/quotas" as "/home"}>Set quotas</Link> : undefined}><Queues cluster={cluster} /></Panel>
            {me?.is_admin && <Panel title="What if" className={grid.w4 ?? ""} note="nothing is changed by asking"><Suppose /></Panel>}
          </div>
        )}
      </Loaded>
    </>
  );
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, each) => total + each, 0);
const share = ({ nodes }: ClusterState) => { const all = sum(nodes.map((node) => node.cpu)); return all ? 1 - sum(nodes.map((node) => node.cpu_free)) / all : 0; };

/** The share of free GPUs that is not where the largest free block is. */
function fragmentation({ nodes, gpus_free: free }: ClusterState): number {
  return free > 0 ? Math.max(0, 1 - largestGang(nodes) / free) : 0;
}

function Queues({ cluster }: { cluster: ClusterState }) {
  if (cluster.queues.length === 0) return <Empty title="No queue is used yet" />;
  return (
    <div className={css.scroll} tabIndex={0} role="region" aria-label="Queues">
      <table className={css.table}>
        <thead><tr><th>Queue</th><th className="num">Running</th><th className="num">Waiting</th><th>Share of the GPUs</th><th className="num">GPUs held</th><th className="num">Quota</th><th className="num">Limit</th><th className="num">Weight</th><th className="num">GPU-hours</th></tr></thead>
        <tbody>
          {cluster.queues.map((queue) => (
            <tr key={queue.name}>
              <th scope="row" data-child={queue.parent ? "" : undefined}>{queue.parent ? <Link className="name" to={`/p/${seg(queue.name)}` as "/home"}>{queue.name}</Link> : <>{queue.name.replace(/^department:/, "")} <span className="dim">department</span></>}</th>
              <td className="num">{count(queue.running)}</td><td className="num">{count(queue.waiting)}</td><td><span className={css.held} aria-hidden><i style={{ width: percent(cluster.gpus ? (queue.held["gpu"] ?? 0) / cluster.gpus : 0) }} />{queue.quota["gpu"] !== undefined && cluster.gpus > 0 && <b style={{ left: percent(Math.min(1, queue.quota["gpu"] / cluster.gpus)) }} />}</span></td>
              <td className="num">{value(queue.held["gpu"] ?? 0, 4)}</td>
              <td className="num">{queue.quota["gpu"] === undefined ? "–" : value(queue.quota["gpu"], 4)}</td><td className="num">{queue.limit["gpu"] === undefined ? "–" : value(queue.limit["gpu"], 4)}</td><td className="num">{value(queue.weight, 3)}</td><td className="num">{value(queue.usage_gpu_hours, 4)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Suppose() {
  const ask = useMutation({ meta: { shown: true }, mutationFn: (body: object) => post<WhatIf>("/api/v1/cluster/what-if", body) });
  const form = useForm({ nodes: 1, gpus: 8 }, async (values) => ask.mutateAsync({ add_nodes: [{ count: values.nodes, gpus: values.gpus }] }));
  const rest = form.rest();
  return (
    <form className={css.form} onSubmit={(event) => { event.preventDefault(); form.send(); }}>
      <div className={css.two}>
        <NumberInput label="More nodes" min={1} value={form.values.nodes} onChange={(each) => form.set("nodes", Number(each) || 1)} error={form.error("add_nodes")} />
        <NumberInput label="GPUs each" min={0} value={form.values.gpus} onChange={(each) => form.set("gpus", Number(each) || 0)} />
        <Button type="submit" loading={form.busy}>Ask the scheduler</Button>
      </div>
      {rest && <Failure error={rest} />}
      {ask.data && (ask.data.starts.length === 0 ? <p className="dim">Nothing waits, so nothing would start sooner.</p> : (
        <ul className={css.starts}>{ask.data.starts.slice(0, 30).map((start) => <li key={start.workload}><code>{start.workload}</code><span>{start.before ? `in ${duration(start.before.seconds)}` : "not in sight"} → <b>{start.after ? `in ${duration(start.after.seconds)}` : "not in sight"}</b></span></li>)}</ul>
      ))}
    </form>
  );
}
