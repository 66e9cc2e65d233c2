import { bytes } from "~/format/number";
import type { Workload } from "~/api/types";

/** What a workload asks for, in a table cell: "4 × 1 GPU, 2 CPU". */
export function asked({ resources, replicas }: Pick<Workload, "resources" | "replicas">): string {
  const gpu = resources.gpu ? `${resources.gpu} GPU${resources.flavor ? ` ${resources.flavor}` : ""}` : "";
  const parts = [gpu, `${resources.cpu} CPU`, resources.memory_bytes ? bytes(resources.memory_bytes) : ""].filter(Boolean).join(", ");
  return replicas > 1 ? `${replicas} × ${parts}` : parts;
}
