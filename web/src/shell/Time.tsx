/** A moment, as long ago; its exact time in the reader's zone on hover. */
import { useSyncExternalStore } from "react";
import { ago, fullTime } from "~/format/time";

let now = Date.now();
const listeners = new Set<() => void>();
setInterval(() => {
  now = Date.now();
  for (const listener of listeners) listener();
}, 5_000);

const subscribe = (listener: () => void) => {
  listeners.add(listener);
  return () => listeners.delete(listener);
};

/** The time, moving on every five seconds: one clock for the whole page. */
export const useNow = (): number => useSyncExternalStore(subscribe, () => now);

export function Ago({ at }: { at: string | null | undefined }) {
  const moment = useNow();
  if (!at) return <span className="dim">–</span>;
  return <time dateTime={at} title={fullTime(at)}>{ago(at, moment)}</time>;
}
