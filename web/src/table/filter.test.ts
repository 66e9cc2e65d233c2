import { describe, expect, it } from "vitest";
import { parse, predicate, toggle } from "./filter";

interface Row { name: string; state: string; lr: number | null; tags: string[] }
const rows: Row[] = [
  { name: "resnet-1", state: "running", lr: 0.1, tags: ["old"] },
  { name: "resnet-2", state: "failed", lr: 0.001, tags: [] },
  { name: "two words", state: "succeeded", lr: null, tags: ["new", "old"] },
];
const found = (text: string) =>
  rows.filter(predicate(text, (row, key) => row[key as keyof Row], (row) => `${row.name} ${row.state}`.toLowerCase())).map((row) => row.name);

describe("the filter language", () => {
  it.each([
    ["", ["resnet-1", "resnet-2", "two words"]],
    ["resnet", ["resnet-1", "resnet-2"]],
    ["RESNET fail", ["resnet-2"]],
    ["state:running", ["resnet-1"]],
    ["state:running state:failed", ["resnet-1", "resnet-2"]],
    ["-state:running", ["resnet-2", "two words"]],
    ["lr>0.01", ["resnet-1"]],
    ["lr<=1e-3", ["resnet-2"]],
    ["lr=0.1", ["resnet-1"]],
    ["tags:old", ["resnet-1", "two words"]],
    ['"two words"', ["two words"]],
    ['name:"two words"', ["two words"]],
    ["name~net -failed", ["resnet-1"]],
    ["nothing:here", []],
  ])("%s", (text, names) => {
    expect(found(text)).toEqual(names);
  });
  it("filters nothing while a term is unfinished", () => {
    expect(found("lr>")).toHaveLength(3);
    expect(found('name:"')).toHaveLength(3);
  });
  it("reads metric names with slashes and dots", () => {
    expect(parse("train/loss.mean<0.5")).toEqual([{ key: "train/loss.mean", operator: "<", value: "0.5", not: false }]);
  });
  it("never hangs or throws on odd text", () => {
    for (const text of ['"', "-", ":", '">:<', "((", "a".repeat(5000), '\\"', "-:~", "key:\u0000"]) expect(() => found(text)).not.toThrow();
  });
});

describe("a clicked filter", () => {
  it("is added and taken away again", () => {
    const once = toggle("resnet", "state", "running");
    expect(once).toBe("resnet state:running");
    expect(toggle(once, "state", "running")).toBe("resnet");
    expect(toggle("", "name", "two words")).toBe('name:"two words"');
  });
});
