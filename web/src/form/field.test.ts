import { describe, expect, it } from "vitest";
import { belongs } from "./field";

describe("an error's field", () => {
  it.each([["name", "name", true], ["resources.gpu", "resources", true], ["resources", "resources.gpu", false], ["names", "name", false], [null, "name", false]])(
    "%s beside %s: %s",
    (path, field, shown) => expect(belongs(path, field)).toBe(shown),
  );
});
