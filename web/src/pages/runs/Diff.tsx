/** A patch, its lines told apart by sign and ground. */
import css from "./Diff.module.css";

export function Diff({ text }: { text: string }) {
  const lines = text.split("\n").slice(0, 5_000);
  return (
    <pre className={css.diff} tabIndex={0} aria-label="Patch">
      {lines.map((line, i) => <div key={i} data-kind={kind(line)}>{line || " "}</div>)}
    </pre>
  );
}

export function kind(line: string): "file" | "hunk" | "added" | "removed" | undefined {
  if (/^(diff |index |\+\+\+ |--- )/.test(line)) return "file";
  if (line.startsWith("@@")) return "hunk";
  return line.startsWith("+") ? "added" : line.startsWith("-") ? "removed" : undefined;
}
