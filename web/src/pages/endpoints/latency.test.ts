import { describe, expect, it } from "vitest";
import type { Traffic } from "~/api/serving";
import { percentile, perMinute } from "./latency";

describe("latency", () => {
  it("lies between the bounds of its bucket", () => {
    expect(percentile([0, 10, 0], [1, 2], 0.5)).toBe(1.5);
    expect(percentile([0, 0, 0], [1, 2], 0.5)).toBeNull();
    expect(percentile([1, 0, 99], [1, 2], 0.99)).toBe(2);
  });
  it("is added up over revisions, and a quiet minute counts", () => {
    const at = (minute: string, requests: number) => ({ minute: `2026-01-01T00:${minute}:00+00:00`, revision: String(requests), requests, errors: 1, rejected: 0, histogram: [requests, 0] });
    const rows = perMinute({ minutes: [at("01", 5), at("01", 2), at("03", 1)] } as unknown as Traffic);
    expect(rows.map((row) => row.requests)).toEqual([7, 0, 1]);
    expect(rows[0]?.histogram).toEqual([7, 0]);
  });
});
