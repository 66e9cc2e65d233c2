import { describe, expect, it } from "vitest";
import { decode } from "./load";

function body(rows: { raw: boolean; columns: number[][] }[], pad = 0): ArrayBuffer {
  let offset = 0;
  const series = rows.map(({ raw, columns }, i) => {
    const row = { run: `r${i}`, key: "loss", count: 9, points: columns[0]?.length ?? 0, raw, offset };
    offset += columns.length * row.points * 8;
    return row;
  });
  const line = new TextEncoder().encode(JSON.stringify({ series }) + " ".repeat(pad) + "\n");
  const out = new Uint8Array(line.length + offset);
  out.set(line);
  let at = line.length;
  for (const { columns } of rows)
    for (const column of columns) {
      out.set(new Uint8Array(Float64Array.from(column).buffer), at);
      at += column.length * 8;
    }
  return out.buffer;
}

describe("the binary body", () => {
  it("is read whatever the length of its head", () => {
    for (let pad = 0; pad < 9; pad++) {
      const [raw, thin, none] = decode(body([{ raw: true, columns: [[1, 2], [10, 20], [0.5, NaN]] }, { raw: false, columns: [[3], [30], [-1], [1]] }, { raw: true, columns: [[], [], []] }], pad));
      expect([...(raw?.series.steps ?? [])]).toEqual([1, 2]);
      expect([...(raw?.series.min ?? [])]).toEqual([0.5, NaN]);
      expect(raw?.series.max).toBe(raw?.series.min);
      expect([thin?.series.thinned, thin?.series.min[0], thin?.series.max[0], thin?.count]).toEqual([true, -1, 1, 9]);
      expect(none?.series.steps).toHaveLength(0);
    }
  });
  it("keeps whole numbers beyond what 32 bits hold", () => {
    const [one] = decode(body([{ raw: true, columns: [[2 ** 40 + 1], [1.7e9], [1]] }]));
    expect(one?.series.steps[0]).toBe(2 ** 40 + 1);
  });
});
