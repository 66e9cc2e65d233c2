import { describe, expect, it } from "vitest";
import { largestGang } from "./fragments";

describe("the largest gang on one node", () => {
  it("counts whole free GPUs of nodes that take work", () => {
    const gpus = (...free: number[]) => free.map((each) => ({ free: each }));
    expect(largestGang([{ schedulable: true, gpus: gpus(1, 0.5, 1) }, { schedulable: false, gpus: gpus(1, 1, 1, 1) }])).toBe(2);
    expect(largestGang([])).toBe(0);
  });
});
