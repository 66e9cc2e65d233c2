import { describe, expect, it } from "vitest";
import { axisOf, position, whole, WHOLE } from "./axis";

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
  it("of whole numbers has no tick between them", () => {
    const axis = axisOf([1, 3, "2"]);
    expect(axis.ticks).toEqual([{ at: 0, text: "1" }, { at: 0.5, text: "2" }, { at: 1, text: "3" }]);
    expect(axisOf([16, 256], true).ticks.map((tick) => tick.text)).toEqual(["16", "32", "64", "128", "256"]);
    expect(axisOf([1, 2.5]).ticks[1]?.text).toBe("1.38");
    expect(WHOLE.every(Number.isInteger)).toBe(true);
  });
  it("says a whole number as short as it can be without saying less", () => {
    expect([0, 7, 9999, 12_300, 12_301, 2_500_000, 2_500_001].map(whole)).toEqual(["0", "7", "9,999", "12.3k", "12,301", "2.5M", "2,500,001"]);
  });
  it("of one value stands in the middle", () => {
    expect(position(axisOf([3, 3]), 3)).toBe(0.5);
    expect(position(axisOf([]), null)).toBeNull();
  });
});
