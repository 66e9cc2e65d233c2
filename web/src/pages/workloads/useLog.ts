/** The output of a workload, from its first byte to the newest, through every reconnect. */
import { useEffect, useRef, useState } from "react";
import { Lines } from "~/log/ansi";
import { live } from "~/live/useLive";

interface LogEvent {
  attempt: number;
  start: number;
  next: number;
  text: string;
  complete: boolean;
}

export interface Output {
  lines: readonly string[];
  complete: boolean;
  ready: boolean;
}

const encoder = new TextEncoder();

/** The lines of one attempt of a workload. */
export function useLog(workload: string, attempt: number | null): Output {
  const [output, setOutput] = useState<Output>({ lines: [], complete: false, ready: false });
  const frame = useRef(0);
  useEffect(() => {
    if (attempt === null) return;
    const lines = new Lines();
    let [complete, ready, at] = [false, false, 0];
    const show = () => {
      frame.current = 0;
      setOutput({ lines: lines.all().slice(), complete, ready });
    };
    const soon = () => {
      if (frame.current === 0) frame.current = requestAnimationFrame(show);
    };
    show();
    const stop = live.subscribe(`workloads/${workload}/log`, `${attempt}:0`, {
      onEvent: (data) => {
        const event = data as LogEvent;
        if (event.attempt !== attempt) return;
        if (event.start > at && at > 0) lines.add(encoder.encode(`\n… ${event.start - at} bytes were dropped here: the output is longer than its limit …\n`));
        at = event.next;
        lines.add(encoder.encode(event.text));
        complete ||= event.complete;
        soon();
      },
      onReady: () => {
        ready = true;
        soon();
      },
    });
    return () => {
      stop();
      if (frame.current) cancelAnimationFrame(frame.current);
      frame.current = 0;
    };
  }, [workload, attempt]);
  return output;
}
