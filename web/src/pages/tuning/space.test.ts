import { describe, expect, it } from "vitest";
import { command, density, examples, size, text, wrong, type Parameter } from "./space";

describe("a parameter of a search", () => {
  it("says what is wrong with it", () => {
    expect(wrong({ name: "lr", type: "float", low: 0.1, high: 0.01 })).toMatch(/below/);
    expect(wrong({ name: "lr", type: "float", low: 0, high: 1, scale: "log" })).toMatch(/above zero/);
    expect(wrong({ name: "lr", type: "float", low: NaN, high: 1 })).toMatch(/both ends/);
    expect(wrong({ name: "o", type: "categorical", choices: ["a"] })).toMatch(/two/);
    expect(wrong({ name: "lr", type: "float", low: 1e-4, high: 1, scale: "log" })).toBeNull();
  });
  it("is drawn evenly on a linear scale and mostly small on a logarithmic one", () => {
    expect(new Set(density({ name: "x", type: "float", low: 0, high: 1 }).map((each) => each.toFixed(6)))).toEqual(new Set(["1.000000"]));
    const log = density({ name: "x", type: "float", low: 1e-4, high: 1, scale: "log" });
    expect(log[0]).toBe(1);
    expect(log.at(-1)).toBeLessThan(0.02);
  });
  it("shows examples of what would be tried", () => {
    expect(examples({ name: "x", type: "float", low: 1e-3, high: 1, scale: "log" })).toContain("0.0316");
    expect(examples({ name: "h", type: "int", low: 16, high: 256, scale: "pow2" })).toEqual(["16", "32", "64", "128", "256"]);
  });
  it("needs no ends where it is true or false", () => {
    const parameter = { name: "norm", type: "bool" };
    expect([wrong(parameter), examples(parameter), size([parameter])]).toEqual([null, ["true", "false"], 2]);
  });
  it("is written as the terminal takes it", () => {
    expect(text({ name: "x", type: "float", low: 1e-4, high: 0.1, scale: "log" })).toBe("0.0001..0.1 log");
    expect(text({ name: "x", type: "float", low: 0, high: 1, scale: "linear", step: 0.1 })).toBe("0..1 float step 0.1");
    expect(text({ name: "h", type: "int", low: 16, high: 256, scale: "pow2" })).toBe("16..256 pow2");
    expect(text({ name: "o", type: "categorical", choices: ["adam", "1", 2], when: { kind: ["a", "b"] } })).toBe('adam, "1", 2 if kind=a|b');
  });
  it("makes a command of what differs from what is proposed", () => {
    const lr: Parameter = { name: "lr", type: "float", low: 0.001, high: 1, scale: "log" };
    const proposed = new Map([["lr", lr], ["size", { name: "size", type: "int", low: 8, high: 64, scale: "pow2" }]]);
    expect(command("my train.py", [...proposed.values()], proposed, { minimize: "yes", gpu: 0, name: "", trials: 20 }, [])).toBe("narf tune 'my train.py' --minimize --trials 20");
    expect(command("train.py", [{ ...lr, high: 0.5 }], proposed, {}, ["--epochs", "it's 5"])).toBe("narf tune train.py --param 'lr=0.001..0.5 log' --skip size -- --epochs 'it'\\''s 5'");
  });
  it("counts the points of a space", () => {
    expect(size([{ name: "h", type: "int", low: 16, high: 256, scale: "pow2" }, { name: "o", type: "categorical", choices: ["a", "b"] }])).toBe(10);
    expect(size([{ name: "x", type: "float", low: 0, high: 1 }])).toBeNull();
  });
});
