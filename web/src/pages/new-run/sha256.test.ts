import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { plain, sha256 } from "./sha256";

describe("SHA-256", () => {
  it("is the same as the platform's for every length around a block", async () => {
    for (const length of [0, 1, 3, 54, 55, 56, 63, 64, 65, 119, 120, 1000]) {
      const bytes = Uint8Array.from({ length }, (_, i) => (i * 37 + length) & 255);
      const wanted = createHash("sha256").update(bytes).digest("hex");
      expect(plain(bytes)).toBe(wanted);
      expect(await sha256(bytes)).toBe(wanted);
    }
  });
});
