import type { Endpoint } from "~/api/serving";

/** What is behind an endpoint, with shares where several are. */
export function serves(endpoint: Pick<Endpoint, "revisions">): string {
  const live = endpoint.revisions.filter((revision) => revision.role !== "retired" && revision.weight > 0);
  return live.map((revision) => `${revision.model}/${revision.version}${live.length > 1 ? ` ${Math.round(share(revision.weight) * 100)}%` : ""}`).join(", ") || "nothing yet";
}

/** Weights are shares or percentages. */
export const share = (weight: number): number => (weight > 1 ? weight / 100 : weight);
