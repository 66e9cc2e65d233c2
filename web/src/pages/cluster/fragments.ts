/** The most whole free GPUs that one node has: the largest gang on one node that could start now. */
export const largestGang = (nodes: readonly { schedulable: boolean; gpus: readonly { free: number }[] }[]): number =>
  Math.max(0, ...nodes.filter((node) => node.schedulable).map((node) => node.gpus.filter((gpu) => gpu.free >= 1).length));
