/** One WebSocket for the whole tab. A topic is a place in a stream: what was seen is remembered as a cursor, so that after a
 * lost connection or a restarted server the same stream goes on from there, without a gap and without a duplicate. */

export type Cursor = number | string;

export interface LiveEvent {
  topic: string;
  cursor: Cursor;
  event: unknown;
}

export interface Listener {
  onEvent: (event: unknown, cursor: Cursor) => void;
  /** The stream cannot go on from the cursor (too old): what is shown must be read anew. */
  onReset?: () => void;
  /** Everything that was missed has arrived; from here on it is live. */
  onReady?: () => void;
  onProblem?: (problem: { code: string; detail: string }) => void;
}

export type Status = "connecting" | "open" | "lost";

/** What the tab needs of a WebSocket; a test gives its own. */
export interface Wire {
  send(text: string): void;
  close(): void;
  onopen: (() => void) | null;
  onmessage: ((event: { data: string }) => void) | null;
  onclose: ((event: { code: number }) => void) | null;
}

interface Topic {
  cursor: Cursor | null;
  listener: Listener;
}

const AWAY_LONGEST = 10_000;

export class Live {
  private topics = new Map<string, Topic>();
  private wire: Wire | null = null;
  private tries = 0;
  private timer: ReturnType<typeof setTimeout> | null = null;
  private watchers = new Set<(status: Status) => void>();
  status: Status = "connecting";

  constructor(private readonly connect: () => Wire, private readonly random: () => number = Math.random) {}

  /** Hear a topic from `cursor` on (null: from now). Returns how to stop. */
  subscribe(name: string, cursor: Cursor | null, listener: Listener): () => void {
    // A second listener may need what the first has seen already: every listener gets a stream of its own.
    if (this.topics.has(name)) name = this.alias(name);
    const topic: Topic = { cursor, listener };
    this.topics.set(name, topic);
    if (this.status === "open") this.ask(name, topic);
    else if (!this.wire && this.timer === null) this.open();
    return () => {
      this.topics.delete(name);
      if (this.status === "open") this.wire?.send(JSON.stringify({ unsubscribe: name }));
    };
  }

  watch(watcher: (status: Status) => void): () => void {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }

  close(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    const wire = this.wire;
    this.wire = null;
    wire?.close();
  }

  /** The server keeps streams apart by the text after `#`. */
  private alias(name: string): string {
    for (let i = 2; ; i++) if (!this.topics.has(`${name}#${i}`)) return `${name}#${i}`;
  }

  private ask(name: string, topic: Topic): void {
    this.wire?.send(JSON.stringify({ subscribe: name, cursor: topic.cursor }));
  }

  private open(): void {
    this.timer = null;
    const wire = this.connect();
    this.wire = wire;
    wire.onopen = () => {
      this.tries = 0;
      this.become("open");
      for (const [name, topic] of this.topics) this.ask(name, topic);
    };
    wire.onmessage = ({ data }) => this.hear(data);
    wire.onclose = () => {
      if (this.wire !== wire) return;
      this.wire = null;
      this.become("lost");
      // Not all tabs at the same moment, and soon at first: a restarted server is back within seconds.
      const wait = Math.min(AWAY_LONGEST, 250 * 2 ** this.tries) * (0.5 + this.random() / 2);
      this.tries += 1;
      this.timer = setTimeout(() => this.open(), wait);
    };
  }

  private hear(data: string): void {
    const message = JSON.parse(data) as { topic?: string; cursor?: Cursor; event?: unknown; reset?: boolean; ready?: boolean; problem?: { code: string; detail: string } };
    const topic = message.topic === undefined ? undefined : this.topics.get(message.topic);
    if (!topic) return;
    if (message.problem) {
      topic.listener.onProblem?.(message.problem);
      return;
    }
    if (message.cursor !== undefined) topic.cursor = message.cursor;
    if (message.reset) topic.listener.onReset?.();
    if (message.event !== undefined && message.cursor !== undefined) topic.listener.onEvent(message.event, message.cursor);
    if (message.ready) topic.listener.onReady?.();
  }

  private become(status: Status): void {
    this.status = status;
    for (const watcher of this.watchers) watcher(status);
  }
}
