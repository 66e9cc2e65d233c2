/** A state as a dot and a word: never colour alone. */
import css from "./State.module.css";

const tones: Record<string, "good" | "info" | "warn" | "bad" | "idle"> = {
  succeeded: "good", finished: "good", healthy: "good", ready: "good", completed: "good", complete: "good", serving: "good", steady: "good", active: "good", available: "good",
  running: "info", starting: "info", admitted: "info", open: "info", scaling: "info", deploying: "info", rolling: "info", new: "info", packaging: "info", loading: "info",
  queued: "idle", scheduled: "idle", waiting: "idle", idle: "idle", cancelled: "idle", killed: "idle", stopped: "idle", paused: "idle", pruned: "idle", stopping: "idle", retired: "idle", draining: "idle",
  preempting: "warn", preempted: "warn", degraded: "warn", pending: "warn", leaving: "warn", drifted: "warn",
  failed: "bad", trouble: "bad", unhealthy: "bad", error: "bad", lost: "bad",
};

export const tone = (state: string): string => tones[state.toLowerCase()] ?? "idle";

export function State({ state }: { state: string }) {
  const word = state.toLowerCase();
  return (
    <span className={css.state} data-tone={tone(word)} data-moving={word === "running" || undefined}>
      <i aria-hidden />
      {word}
    </span>
  );
}
