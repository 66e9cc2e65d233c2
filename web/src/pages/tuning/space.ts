/** A search space as a form edits it, and what a parameter's distribution looks like. Pure. */

export interface Parameter {
  name: string;
  type: string; // float, int, bool, categorical
  low?: number | undefined;
  high?: number | undefined;
  scale?: string;
  step?: number;
  choices?: (string | number | boolean | null)[];
  [more: string]: unknown;
}

/** What is wrong with a parameter, in words; null if nothing is. The server checks again. */
export function wrong(parameter: Parameter): string | null {
  if (parameter.type === "bool") return null;
  if (parameter.type === "categorical") return (parameter.choices?.length ?? 0) < 2 ? "Give at least two choices." : null;
  const { low, high, scale } = parameter;
  if (low === undefined || high === undefined || !Number.isFinite(low) || !Number.isFinite(high)) return "Give both ends.";
  if (low >= high) return "The lower end must be below the upper one.";
  if ((scale === "log" || scale === "pow2") && low <= 0) return "On this scale both ends must be above zero.";
  return null;
}

/** How likely values are in `count` equal parts of a linear axis from low to high: what a scale does to sampling. */
export function density(parameter: Parameter, count = 40): number[] {
  if (wrong(parameter) || parameter.low === undefined || parameter.high === undefined) return [];
  const { low, high } = parameter;
  const edges = Array.from({ length: count + 1 }, (_, i) => low + ((high - low) * i) / count);
  const share = (value: number) => (parameter.scale === "log" || parameter.scale === "pow2" ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const parts = edges.slice(1).map((edge, i) => share(edge) - share(edges[i] ?? low));
  const most = Math.max(...parts);
  return parts.map((part) => part / most);
}

/** Seven values as they would be drawn, from the least to the greatest: quantiles of the distribution. */
export function examples(parameter: Parameter): string[] {
  if (parameter.type === "bool") return ["true", "false"];
  if (parameter.type === "categorical") return (parameter.choices ?? []).map(String);
  if (wrong(parameter) || parameter.low === undefined || parameter.high === undefined) return [];
  const { low, high, scale } = parameter;
  const values = Array.from({ length: 7 }, (_, i) => {
    const share = i / 6;
    const value = scale === "log" || scale === "pow2" ? low * (high / low) ** share : low + share * (high - low);
    if (scale === "pow2") return 2 ** Math.round(Math.log2(value));
    return parameter.type === "int" ? Math.round(value) : Number(value.toPrecision(3));
  });
  return [...new Set(values)].map(String);
}

/** A range as the terminal takes it: 1e-4..0.1 log; adam, sgd; bool. */
export function text(parameter: Parameter): string {
  const { type, low, high, scale, step } = parameter;
  const when = Object.entries((parameter["when"] as Record<string, unknown[]> | undefined) ?? {}).map(([parent, values]) => ` if ${parent}=${values.map(String).join("|")}`).join("");
  if (type === "bool") return `bool${when}`;
  if (type === "categorical") return (parameter.choices ?? []).map((each) => (typeof each === "string" && (each === "" || /^\s|\s$|^(true|false|none|null)$/i.test(each) || Number.isFinite(Number(each))) ? `"${each}"` : String(each))).join(", ") + when;
  const words = [scale && scale !== "linear" ? scale : "", type === "float" && [low, high].every(Number.isInteger) ? "float" : "", step ? `step ${step}` : ""];
  return [`${low ?? "…"}..${high ?? "…"}`, ...words.filter(Boolean)].join(" ") + when;
}

/** As a shell reads it. */
const quoted = (word: string): string => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** The words after `narf tune` for a search. `proposed`: what is searched when nothing is said of it, by name. */
export function command(script: string, parameters: readonly Parameter[], proposed: ReadonlyMap<string, Parameter>, flags: Record<string, string | number>, args: readonly string[]): string {
  const searched = new Set(parameters.map((each) => each.name));
  const ranges = parameters.filter((each) => text(each) !== text(proposed.get(each.name) ?? { name: each.name, type: "" })).flatMap((each) => ["--param", `${each.name}=${text(each)}`]);
  const skipped = [...proposed.keys()].filter((name) => !searched.has(name)).flatMap((name) => ["--skip", name]);
  const rest = Object.entries(flags).filter(([, each]) => each !== "" && each !== 0).flatMap(([name, each]) => (each === "yes" ? [`--${name}`] : [`--${name}`, String(each)]));
  return ["narf", "tune", script, ...ranges, ...skipped, ...rest, ...(args.length > 0 ? ["--", ...args] : [])].map(quoted).join(" ");
}

/** How many different points the space has; null where a parameter is continuous. */
export function size(parameters: readonly Parameter[]): number | null {
  let total = 1;
  for (const parameter of parameters) {
    if (parameter.type === "bool") total *= 2;
    else if (parameter.type === "categorical") total *= parameter.choices?.length ?? 1;
    else if (parameter.type === "int" && parameter.low !== undefined && parameter.high !== undefined)
      total *= parameter.scale === "pow2" ? Math.floor(Math.log2(parameter.high / parameter.low)) + 1 : Math.floor((parameter.high - parameter.low) / (parameter.step ?? 1)) + 1;
    else return null;
  }
  return total;
}
