/** The tab's one live connection, for React. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useSyncExternalStore } from "react";
import { Live, type Cursor, type Listener, type Status, type Wire } from "./socket";

const address = () => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/live`;

export const live = new Live(() => new WebSocket(address()) as unknown as Wire);

export const useLiveStatus = (): Status => useSyncExternalStore((change) => live.watch(change), () => live.status);

/** Hear `topic` from `cursor` (null: from now) while the component is shown; null hears nothing. */
export function useLive(topic: string | null, cursor: Cursor | null, listener: Listener): void {
  const current = useRef(listener);
  current.current = listener;
  const start = useRef(cursor);
  start.current = cursor;
  useEffect(() => {
    if (topic === null) return;
    return live.subscribe(topic, start.current, {
      onEvent: (event, at) => current.current.onEvent(event, at),
      onReset: () => current.current.onReset?.(),
      onReady: () => current.current.onReady?.(),
      onProblem: (problem) => current.current.onProblem?.(problem),
    });
  }, [topic]);
}

/** The topic of a project's nouns. What has no event of its own (packaging, a replica's start) is seen by its workload's. */
export function useRefreshNoun(project: string, noun: "models" | "endpoints" | "datasets" | "studies", ...keys: readonly (readonly unknown[])[]): void {
  useRefresh(`projects/${project}/${noun}`, ...keys);
  useRefresh(`projects/${project}/workloads`, ...keys);
}

/** Read these queries again, at most about twice a second, whenever something happens on `topic`. */
export function useRefresh(topic: string | null, ...keys: readonly (readonly unknown[])[]): void {
  const client = useQueryClient();
  const timer = useRef<ReturnType<typeof setTimeout> | null>(null);
  const refresh = () => {
    if (timer.current !== null) return;
    timer.current = setTimeout(() => {
      timer.current = null;
      for (const queryKey of keys) void client.invalidateQueries({ queryKey });
    }, 400);
  };
  useEffect(() => () => void (timer.current !== null && clearTimeout(timer.current)), []);
  useLive(topic, null, { onEvent: refresh, onReset: refresh, onReady: refresh });
}
