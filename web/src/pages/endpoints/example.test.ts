import { describe, expect, it } from "vitest";
import { bodyOf, valueOf } from "./example";

describe("a request that fits", () => {
  it("comes from the example where there is one", () => {
    expect(bodyOf({ paths: { "/predict": { post: { requestBody: { content: { "application/json": { example: { inputs: [[1]] } } } } } } } })).toEqual({ inputs: [[1]] });
  });
  it("is made from the schema, with references and bounds", () => {
    const root = { components: { schemas: { Row: { type: "array", minItems: 3, items: { type: "number" } } } } };
    expect(valueOf({ properties: { inputs: { type: "array", items: { $ref: "#/components/schemas/Row" } }, name: { type: "string" }, mode: { enum: ["a", "b"] } } }, root)).toEqual({ inputs: [[0, 0, 0]], name: "", mode: "a" });
  });
  it("ends for a schema that names itself", () => {
    const root = { components: { schemas: { Tree: { properties: { child: { $ref: "#/components/schemas/Tree" } } } } } };
    expect(() => valueOf({ $ref: "#/components/schemas/Tree" }, root)).not.toThrow();
  });
  it("of nothing known is a row", () => {
    expect(bodyOf({})).toEqual({ inputs: [[0]] });
  });
});
