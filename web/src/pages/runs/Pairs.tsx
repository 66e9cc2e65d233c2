/** Names with values: findable, aligned, long ones folded. */
import { TextInput } from "@mantine/core";
import { useState } from "react";
import css from "./Pairs.module.css";

export function Pairs({ pairs, nothing, label, numeric = false }: { pairs: readonly (readonly [string, string])[]; nothing: string; label: string; numeric?: boolean }) {
  const [text, setText] = useState("");
  if (pairs.length === 0) return <p className={css.nothing}>{nothing}</p>;
  const wanted = text.toLowerCase();
  const shown = pairs.filter(([name, each]) => `${name} ${each}`.toLowerCase().includes(wanted)).sort(([a], [b]) => a.localeCompare(b));
  return (
    <div>
      {pairs.length > 12 && <div className={css.find}><TextInput aria-label={`Find in ${label}`} placeholder="Find" value={text} onChange={(event) => setText(event.currentTarget.value)} /></div>}
      <div className={css.scroll} tabIndex={0} role="region" aria-label={label}>
        <table className={css.pairs}>
          <tbody>
            {shown.map(([name, each]) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td className={numeric ? "num" : undefined}>{each.length > 300 || each.includes("\n") ? <details><summary>{each.slice(0, 80)}…</summary><pre>{each}</pre></details> : each}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
