/** A lineage graph in columns: what was used on the left, what came of it on the right. */
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { seg } from "~/api/client";
import type { Graph } from "~/api/data";
import { runQuery } from "~/api/runs";
import { Box } from "~/pages/models/Lineage";
import { layers } from "./layers";
import css from "./Dataset.module.css";

const WIDTH = 200;
const ROW = 58;
const GAP = 70;

export function LineageGraph({ graph, project, centre }: { graph: Graph; project: string; centre: string }) {
  const placed = useMemo(() => layers(graph.nodes.map((node) => `${node.kind}:${node.id}`), graph.edges), [graph]);
  if (graph.nodes.length < 2) return <p className="dim">Nothing was made from it yet, and it came from a folder.</p>;
  const at = (key: string) => placed.get(key) ?? { column: 0, row: 0 };
  const columns = Math.max(...[...placed.values()].map((place) => place.column)) + 1;
  const rows = Math.max(...[...placed.values()].map((place) => place.row)) + 1;
  const address = (kind: string, id: string): string | undefined => {
    const [, name = "", version = ""] = /^(?:[^/]+\/)?([^@]+)@?(.*)$/.exec(id) ?? [];
    const base = `/p/${seg(project)}`;
    return { run: `${base}/runs/${id}`, dataset_version: `${base}/data/${seg(name)}/${seg(version)}`, model_version: `${base}/models/${seg(name)}/${seg(version)}`, endpoint: `${base}/endpoints/${seg(name)}` }[kind];
  };
  const [width, height] = [columns * (WIDTH + GAP) - GAP, rows * ROW];
  return (
    <div className={css.scroll} tabIndex={0} role="region" aria-label="Lineage">
      <div className={css.graph} style={{ width, height }}>
        <svg width={width} height={height} aria-hidden>
          {graph.edges.map((edge) => {
            const [from, to] = [at(edge.source), at(edge.target)];
            const [x1, y1, x2, y2] = [from.column * (WIDTH + GAP) + WIDTH, from.row * ROW + 24, to.column * (WIDTH + GAP), to.row * ROW + 24];
            return <path key={`${edge.source} ${edge.target}`} d={`M${x1},${y1} C${x1 + GAP / 2},${y1} ${x2 - GAP / 2},${y2} ${x2},${y2}`} fill="none" stroke="var(--line-strong)" />;
          })}
        </svg>
        {graph.nodes.map((node) => {
          const key = `${node.kind}:${node.id}`;
          const place = at(key);
          const to = address(node.kind, node.id);
          return <div key={key} className={css.node} data-centre={key === centre || undefined} style={{ left: place.column * (WIDTH + GAP), top: place.row * ROW, width: WIDTH }}><Box kind={node.kind.replace("_version", "")} {...(to ? { to } : {})}><Named kind={node.kind} id={node.id} label={node.label} /></Box></div>;
        })}
      </div>
      {graph.truncated && <p className="dim">There is more; this is the nearest part.</p>}
    </div>
  );
}

/** A run by its name, which the graph does not know. */
function Named({ kind, id, label }: { kind: string; id: string; label: string }) {
  const query = useQuery({ ...runQuery(id), enabled: kind === "run", staleTime: 60_000 });
  return <>{(kind === "run" && query.data?.name) || label}</>;
}
