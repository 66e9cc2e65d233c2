/** Counts over ranges, as small bars; each says its range when pointed at. */
import { count, value } from "~/format/number";

export function Histogram({ edges, counts, label, width = 140, height = 30 }: { edges: readonly number[]; counts: readonly number[]; label: string; width?: number; height?: number }) {
  const most = Math.max(1, ...counts);
  const each = width / Math.max(1, counts.length);
  return (
    <svg width={width} height={height} role="img" aria-label={`Distribution of ${label}, from ${value(edges[0], 4)} to ${value(edges.at(-1), 4)}`} style={{ display: "block" }}>
      {counts.map((number, i) => {
        const tall = number === 0 ? 0 : Math.max(1, (number / most) * (height - 1));
        return <rect key={i} x={i * each} y={height - tall} width={Math.max(1, each - 1)} height={tall} fill="var(--accent)" opacity={0.75}><title>{`${value(edges[i], 4)} to ${value(edges[i + 1], 4)}: ${count(number)}`}</title></rect>;
      })}
    </svg>
  );
}
