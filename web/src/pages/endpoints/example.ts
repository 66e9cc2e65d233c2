/** A request that fits an endpoint, made from its OpenAPI description or from the model's signature. Pure. */

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

interface Schema {
  type?: string;
  properties?: Record<string, Schema>;
  items?: Schema;
  prefixItems?: Schema[];
  minItems?: number;
  enum?: Json[];
  example?: Json;
  examples?: Json[] | Record<string, { value: Json }>;
  default?: Json;
  anyOf?: Schema[];
  oneOf?: Schema[];
  $ref?: string;
  [more: string]: unknown;
}

/** A value that `schema` allows; references are looked up in `root`. */
export function valueOf(schema: Schema | undefined, root: unknown, depth = 0): Json {
  if (!schema || depth > 8) return null;
  if (schema.$ref) return valueOf(lookUp(schema.$ref, root), root, depth + 1);
  if (schema.example !== undefined) return schema.example;
  if (Array.isArray(schema.examples) && schema.examples.length) return schema.examples[0] ?? null;
  if (schema.default !== undefined) return schema.default;
  if (schema.enum?.length) return schema.enum[0] ?? null;
  const either = schema.anyOf?.[0] ?? schema.oneOf?.[0];
  if (either) return valueOf(either, root, depth + 1);
  if (schema.type === "array") return Array.from({ length: Math.min(schema.minItems ?? 1, 4096) || 1 }, () => valueOf(schema.items, root, depth + 1));
  if (schema.type === "integer" || schema.type === "number") return 0;
  if (schema.type === "string") return "";
  if (schema.type === "boolean") return false;
  if (schema.properties) return Object.fromEntries(Object.entries(schema.properties).map(([name, each]) => [name, valueOf(each, root, depth + 1)]));
  return {};
}

function lookUp(reference: string, root: unknown): Schema | undefined {
  return reference.replace(/^#\//, "").split("/").reduce<unknown>((at, part) => (at && typeof at === "object" ? (at as Record<string, unknown>)[part] : undefined), root) as Schema | undefined;
}

/** The body of a prediction, from the OpenAPI description of an endpoint. */
export function bodyOf(description: unknown): Json {
  const paths = (description as { paths?: Record<string, { post?: { requestBody?: { content?: Record<string, { schema?: Schema; example?: Json; examples?: Record<string, { value: Json }> }> } } }> }).paths ?? {};
  const path = Object.keys(paths).find((each) => /predict$/.test(each)) ?? Object.keys(paths).find((each) => /infer$|invocations$/.test(each));
  const content = path ? paths[path]?.post?.requestBody?.content?.["application/json"] : undefined;
  if (!content) return { inputs: [[0]] };
  if (content.example !== undefined) return content.example;
  const named = content.examples ? Object.values(content.examples)[0] : undefined;
  return named ? named.value : valueOf(content.schema, description);
}
