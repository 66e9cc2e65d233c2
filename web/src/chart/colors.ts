/** Colours of series: ten that stay apart from each other on both grounds, then the same again dashed. */

const light = ["#5b5bd6", "#d9622b", "#14805e", "#c2348c", "#0a77bd", "#946300", "#7f3fbf", "#b83232", "#16808a", "#5c6470"];
const dark = ["#8e8cf0", "#ff8f5c", "#4cc38a", "#f17ac6", "#5eb1ff", "#e5b53d", "#c08cf2", "#ff7a7f", "#4dc4cf", "#a3acb8"];

export function color(index: number, scheme: "light" | "dark"): string {
  const list = scheme === "dark" ? dark : light;
  return list[index % list.length] ?? "#888";
}

export const dash = (index: number): number[] => (index < light.length ? [] : index < 2 * light.length ? [6, 3] : [2, 2]);
