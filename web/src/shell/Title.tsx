/** The head of a page: its name, a line about it, and what can be done there. */
import type { ReactNode } from "react";
import css from "./Title.module.css";

export function Title({ children, note, actions }: { children: ReactNode; note?: ReactNode; actions?: ReactNode }) {
  return (
    <div className={css.title}>
      <div className={css.words}>
        <h1>{children}</h1>
        {note !== undefined && <div className={css.note}>{note}</div>}
      </div>
      {actions && <div className={css.actions}>{actions}</div>}
    </div>
  );
}

/** Names and values of one thing, in two columns. */
export function Facts({ facts }: { facts: readonly (readonly [string, ReactNode] | null | false)[] }) {
  return (
    <dl className={css.facts}>
      {facts.filter((fact) => !!fact).map(([name, each]) => (
        <div key={name} className={css.fact}>
          <dt>{name}</dt>
          <dd>{each === null || each === undefined || each === "" ? "–" : each}</dd>
        </div>
      ))}
    </dl>
  );
}
