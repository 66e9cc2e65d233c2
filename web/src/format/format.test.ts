import { describe, expect, it } from "vitest";
import { bytes, value } from "./number";
import { ago, between, duration } from "./time";

describe("lengths of time", () => {
  it.each([[0.25, "250 ms"], [5.24, "5.2 s"], [59.9, "59 s"], [60, "1m 00s"], [3725, "1h 02m"], [90000, "1d 1h"], [null, "–"]])("%s is %s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });
  it("is open until the end is known", () => {
    expect(between("2026-01-01T00:00:00Z", null, Date.parse("2026-01-01T00:00:10Z"))).toBe(10);
    expect(between(null, null)).toBeNull();
  });
  it("says how long ago in one unit", () => {
    const now = Date.parse("2026-01-01T12:00:00Z");
    expect(ago("2026-01-01T11:59:58Z", now)).toBe("now");
    expect(ago("2026-01-01T09:00:00Z", now)).toBe("3h ago");
  });
});

describe("numbers", () => {
  it.each([[0, "0"], [0.123456789, "0.12346"], [12345, "12,345"], [1.5e-7, "1.5e-7"], [3e12, "3e12"], [Number.NaN, "NaN"], [-Infinity, "−∞"], [null, "–"]])("%s is %s", (number, text) => {
    expect(value(number)).toBe(text);
  });
  it.each([[0, "0 B"], [1023, "1023 B"], [1536, "1.5 KiB"], [5 * 1024 ** 3, "5 GiB"]])("%s bytes are %s", (size, text) => {
    expect(bytes(size)).toBe(text);
  });
});
