import { describe, expect, it } from "vitest";
import { empty, extended, extent, middle, nearest, smoothed, type Series } from "./series";

const of = (...steps: number[]): Series => {
  const values = Float64Array.from(steps, (step) => step * 10);
  return { steps: Float64Array.from(steps), times: Float64Array.from(steps), min: values, max: values, thinned: false };
};

describe("history and live points", () => {
  it("join without gap or duplicate, wherever they overlap", () => {
    for (let cut = 0; cut <= 5; cut++)
      for (let back = 0; back <= cut; back++) {
        const joined = extended(of(...[1, 2, 3, 4, 5].slice(0, cut)), of(...[1, 2, 3, 4, 5].slice(back)));
        expect([...joined.steps]).toEqual([1, 2, 3, 4, 5]);
        expect([...joined.min]).toEqual([10, 20, 30, 40, 50]);
      }
  });
  it("nothing new changes nothing", () => {
    const series = of(1, 2);
    expect(extended(series, of(1, 2))).toBe(series);
    expect(extended(series, empty)).toBe(series);
  });
});

describe("smoothing", () => {
  it("of a constant is the constant", () => {
    const series = { ...of(1, 2, 3), min: Float64Array.of(7, 7, 7), max: Float64Array.of(7, 7, 7) };
    for (const each of smoothed(series, 0.9)) expect(each).toBeCloseTo(7);
  });
  it("goes on after NaN", () => {
    const series = { ...of(1, 2, 3), min: Float64Array.of(1, NaN, 3), max: Float64Array.of(1, NaN, 3) };
    const out = smoothed(series, 0.5);
    expect(out[1]).toBeNaN();
    expect(out[2]).toBeGreaterThan(1);
  });
});

describe("looking up", () => {
  it("finds the nearest", () => {
    expect([0, 1.4, 1.6, 9].map((x) => nearest(Float64Array.of(1, 2, 5), x))).toEqual([0, 0, 1, 2]);
    expect(nearest(new Float64Array(0), 1)).toBe(-1);
  });
  it("knows the extent without NaN and, for a log scale, without what is not positive", () => {
    expect(extent([Float64Array.of(NaN, -1, 4)])).toEqual([-1, 4]);
    expect(extent([Float64Array.of(NaN, -1, 4)], true)).toEqual([4, 4]);
    expect(extent([Float64Array.of(NaN)])).toBeNull();
  });
});

describe("the extent without outliers", () => {
  it("leaves the odd spike out, and keeps everything of a few points", () => {
    const values = Float64Array.from({ length: 200 }, (_, i) => (i === 7 ? 1e9 : i / 200));
    expect(middle([values])?.[1]).toBeLessThan(1);
    expect(middle([Float64Array.of(1, 100)])).toEqual([1, 100]);
    expect(middle([])).toBeNull();
  });
});
