import { describe, expect, it } from "vitest";
import { grouped } from "./group";

describe("groups of runs", () => {
  it("count, average and range over what is a number", () => {
    const rows = [{ lr: 1, loss: 2 }, { lr: 1, loss: 4 }, { lr: 2, loss: NaN }, { lr: null, loss: null }];
    const groups = grouped(rows, (row) => row.lr, ["loss"], (row) => row.loss);
    expect(groups.map(({ value, count, means }) => [value, count, means["loss"]])).toEqual([["1", 2, 3], ["2", 1, null], ["none", 1, null]]);
    expect(groups[0]?.bests["loss"]).toEqual({ min: 2, max: 4 });
  });
});
