import { describe, expect, it } from "vitest";
import { rank } from "./rank";

const things = ["Workloads", "New run", "Runs", "vision-foundation", "Overview"];
describe("a few letters", () => {
  it.each([
    ["", things],
    ["run", ["Runs", "New run"]],
    ["found", ["vision-foundation"]],
    ["wkl", ["Workloads"]],
    ["xyz", []],
  ])("%j finds %j", (text, found) => {
    expect(rank(text, things, (thing) => thing)).toEqual(found);
  });
});
