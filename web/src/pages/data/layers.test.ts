import { describe, expect, it } from "vitest";
import { layers } from "./layers";

describe("a lineage graph", () => {
  it("goes from left to right", () => {
    const places = layers(["data", "run", "model", "other"], [{ source: "run", target: "model" }, { source: "data", target: "run" }, { source: "other", target: "model" }]);
    expect([...places].map(([name, { column, row }]) => [name, column, row])).toEqual([["data", 0, 0], ["run", 1, 0], ["model", 2, 0], ["other", 0, 1]]);
  });
  it("ends for a circle", () => {
    expect(layers(["a", "b"], [{ source: "a", target: "b" }, { source: "b", target: "a" }]).size).toBe(2);
  });
});
