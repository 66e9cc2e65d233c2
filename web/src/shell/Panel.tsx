/** A bordered part of a page that stands for itself: when it fails, only it says so. */
import { Button, Skeleton } from "@mantine/core";
import { IconAlertTriangle, IconCopy } from "@tabler/icons-react";
import { useQueryClient, type UseQueryResult } from "@tanstack/react-query";
import { Component, type ReactNode } from "react";
import { Problem } from "~/api/client";
import { done } from "~/api/query";
import css from "./Panel.module.css";

export function Panel({ title, note, actions, children, flush = false, className = "" }: { title?: ReactNode; note?: ReactNode; actions?: ReactNode; children: ReactNode; flush?: boolean; className?: string }) {
  return (
    <section className={`${css.panel} ${className}`}>
      {(title !== undefined || actions !== undefined) && (
        <div className={css.head}>
          {typeof title === "string" ? <h2>{title}</h2> : title}
          {note !== undefined && <span className={css.note}>{note}</span>}
          {actions !== undefined && <div className={css.actions}>{actions}</div>}
        </div>
      )}
      <div className={flush ? css.flush : css.inside}>
        <Boundary>{children}</Boundary>
      </div>
    </section>
  );
}

/** What a query has: its data, a skeleton of the final height, or the API's sentence with a way on. */
export function Loaded<T>({ query, height = 120, children }: { query: UseQueryResult<T>; height?: number; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Failure error={query.error} retry={() => void query.refetch()} />;
  const waiting = query.failureReason instanceof Problem ? query.failureReason : null;
  return (
    <div style={{ height }} aria-busy="true" role="status" aria-label={waiting ? waiting.message : "Loading"}>
      {waiting ? <Failure error={waiting} retry={() => void query.refetch()} /> : <Bones height={height} />}
    </div>
  );
}

function Bones({ height }: { height: number }) {
  const rows = Math.max(1, Math.floor(height / 34));
  return (
    <div className={css.bones}>
      {Array.from({ length: rows }, (_, i) => <Skeleton key={i} height={10} width={`${92 - ((i * 17) % 45)}%`} radius={4} />)}
    </div>
  );
}

export function Failure({ error, retry }: { error: unknown; retry?: () => void }) {
  const problem = error instanceof Problem ? error : new Problem({ status: 0, detail: error instanceof Error ? error.message : String(error) });
  return (
    <div className={css.failure} role="alert">
      <IconAlertTriangle size={16} stroke={1.7} aria-hidden />
      <div>
        <div>{problem.message}</div>
        {problem.remedy && <div className="dim">{problem.remedy}</div>}
      </div>
      {retry && <Button variant="default" size="compact-xs" onClick={retry}>Try again</Button>}
    </div>
  );
}

/** A list with nothing in it, and exactly what would fill it. */
export function Empty({ title, children, command, action }: { title: string; children?: ReactNode; command?: string; action?: ReactNode }) {
  return (
    <div className={css.empty}>
      <h2>{title}</h2>
      {children && <p className="dim">{children}</p>}
      {command && <Command text={command} />}
      {action}
    </div>
  );
}

/** A command to type, with a button that copies it. */
export function Command({ text }: { text: string }) {
  const copy = async () => {
    await navigator.clipboard.writeText(text);
    done("Copied");
  };
  return (
    <span className={css.command}>
      <code tabIndex={0}>{text}</code>
      <button type="button" onClick={() => void copy()} aria-label={`Copy: ${text}`}><IconCopy size={14} stroke={1.6} /></button>
    </span>
  );
}

class Boundary extends Component<{ children: ReactNode }, { error: unknown }> {
  override state = { error: null as unknown };
  static getDerivedStateFromError(error: unknown) {
    return { error };
  }
  override componentDidCatch(error: unknown) {
    console.error(error);
  }
  override render() {
    if (this.state.error === null) return this.props.children;
    return <Failure error={this.state.error} retry={() => this.setState({ error: null })} />;
  }
}

/** A whole page that failed; the frame around it lives on. */
export function Broken({ error, reset }: { error: unknown; reset?: () => void }) {
  const client = useQueryClient();
  const again = () => {
    void client.invalidateQueries();
    if (reset) reset();
    else location.reload();
  };
  return (
    <div className={css.broken}>
      <Failure error={error} retry={again} />
    </div>
  );
}
