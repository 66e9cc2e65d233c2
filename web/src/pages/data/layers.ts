/** Places of a graph's nodes: each to the right of everything it came from, columns filled from the top. A circle does not hang it. */

export function layers(nodes: readonly string[], edges: readonly { source: string; target: string }[]): Map<string, { column: number; row: number }> {
  const columns = new Map(nodes.map((node) => [node, 0]));
  for (let pass = 0; pass < nodes.length; pass++) {
    let moved = false;
    for (const { source, target } of edges) {
      const wanted = (columns.get(source) ?? 0) + 1;
      if (columns.has(target) && columns.has(source) && (columns.get(target) ?? 0) < wanted && wanted < nodes.length) {
        columns.set(target, wanted);
        moved = true;
      }
    }
    if (!moved) break;
  }
  const filled = new Map<number, number>();
  return new Map(
    nodes.map((node) => {
      const column = columns.get(node) ?? 0;
      const row = filled.get(column) ?? 0;
      filled.set(column, row + 1);
      return [node, { column, row }];
    }),
  );
}
