import { describe, expect, it } from "vitest";
import { compareCells, nextSort, parseSort } from "./sort";
import type { Cell } from "./filter";

describe("sorting", () => {
  it("keeps what has no value at the end, both ways", () => {
    const cells: Cell[] = [3, null, 1, NaN, 2];
    expect([...cells].sort((a, b) => compareCells(a, b, false)).slice(0, 3)).toEqual([1, 2, 3]);
    expect([...cells].sort((a, b) => compareCells(a, b, true)).slice(0, 3)).toEqual([3, 2, 1]);
  });
  it("counts inside names", () => {
    expect(["run-10", "run-9"].sort((a, b) => compareCells(a, b, false))).toEqual(["run-9", "run-10"]);
  });
  it("goes one way, the other, and off", () => {
    let sort = nextSort(undefined, "loss", true);
    expect(parseSort(sort)).toEqual({ key: "loss", descending: true });
    sort = nextSort(sort, "loss", true);
    expect(parseSort(sort)).toEqual({ key: "loss", descending: false });
    expect(nextSort(sort, "loss", true)).toBeUndefined();
  });
});
