import { describe, expect, it } from "vitest";
import { axisOf, position } from "./axis";

describe("an axis", () => {
  it("of numbers, linear and logarithmic", () => {
    expect(position(axisOf([0, 10]), 5)).toBe(0.5);
    expect(position(axisOf([1e-4, 1e-2], true), 1e-3)).toBeCloseTo(0.5);
    expect(position(axisOf([1e-4, 1e-2], true), 0)).toBeNull();
    expect(position(axisOf(["1", "3"]), "2")).toBe(0.5);
  });
  it("of words", () => {
    const axis = axisOf(["sgd", "adam", null, "lion"]);
    expect(["adam", "lion", "sgd"].map((word) => position(axis, word))).toEqual([0, 0.5, 1]);
    expect(position(axis, "other")).toBeNull();
  });
  it("of one value stands in the middle", () => {
    expect(position(axisOf([3, 3]), 3)).toBe(0.5);
    expect(position(axisOf([]), null)).toBeNull();
  });
});
