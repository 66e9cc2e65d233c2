/** Amounts of resources as a form has them: memory in GiB, nothing for what is not set. Pure. */

export interface Resource {
  key: string;
  label: string;
  unit: number;
}

export const RESOURCES: readonly Resource[] = [
  { key: "gpu", label: "GPUs", unit: 1 },
  { key: "cpu", label: "CPU cores", unit: 1 },
  { key: "memory", label: "Memory, GiB", unit: 1024 ** 3 },
];

export type Drafts = Record<string, number | "">;

export const shownAs = (set: Record<string, number>): Drafts => Object.fromEntries(RESOURCES.filter(({ key }) => set[key] !== undefined).map(({ key, unit }) => [key, (set[key] ?? 0) / unit]));

/** What the API gets: the form's resources, and beside them those that the form does not show (a flavor's), as they were. */
export function amounts(drafts: Drafts, before: Record<string, number>): Record<string, number> {
  const shown = new Set(RESOURCES.map(({ key }) => key));
  const kept = Object.entries(before).filter(([key]) => !shown.has(key));
  const given = RESOURCES.flatMap(({ key, unit }) => (typeof drafts[key] === "number" ? [[key, drafts[key] * unit] as const] : []));
  return Object.fromEntries([...kept, ...given]);
}
