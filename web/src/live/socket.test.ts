import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Live, type Wire } from "./socket";

/** A server with one stream of numbers that answers from any cursor, and a connection that can be cut anywhere. */
class Server {
  stream: number[] = [];
  wires: { wire: Wire; topics: Map<string, number> }[] = [];
  connect = (): Wire => {
    const entry = { topics: new Map<string, number>(), wire: null as unknown as Wire };
    entry.wire = {
      onopen: null, onmessage: null, onclose: null,
      send: (text) => {
        const message = JSON.parse(text) as { subscribe?: string; unsubscribe?: string; cursor?: number | null };
        if (message.subscribe) entry.topics.set(message.subscribe, message.cursor ?? this.stream.length);
        if (message.unsubscribe) entry.topics.delete(message.unsubscribe);
        this.flush();
      },
      close: () => undefined,
    };
    this.wires.push(entry);
    return entry.wire;
  };
  accept() {
    this.wires.at(-1)?.wire.onopen?.();
  }
  publish(value: number) {
    this.stream.push(value);
    this.flush();
  }
  cut() {
    this.wires.pop()?.wire.onclose?.({ code: 1006 });
  }
  private flush() {
    for (const { wire, topics } of this.wires)
      for (const [topic, from] of topics)
        for (let i = from; i < this.stream.length; i++) {
          topics.set(topic, i + 1);
          wire.onmessage?.({ data: JSON.stringify({ topic, cursor: i + 1, event: this.stream[i] }) });
        }
  }
}

beforeEach(() => vi.useFakeTimers());
afterEach(() => vi.useRealTimers());

describe("one stream through lost connections", () => {
  it("has no gap and no duplicate", () => {
    const server = new Server();
    const live = new Live(server.connect, () => 0.5);
    const seen: number[] = [];
    live.subscribe("numbers", 0, { onEvent: (event) => seen.push(event as number) });
    server.accept();
    for (let value = 0; value < 50; value++) {
      server.publish(value);
      if (value % 7 === 3) {
        server.cut();
        server.publish(1000 + value);
        vi.advanceTimersByTime(20_000);
        server.accept();
      }
    }
    expect(seen).toEqual(server.stream);
    live.close();
  });

  it("tells what it is doing, and waits longer each time", () => {
    const server = new Server();
    const live = new Live(server.connect, () => 1);
    const states: string[] = [];
    live.watch((status) => states.push(status));
    live.subscribe("numbers", null, { onEvent: () => undefined });
    server.accept();
    server.cut();
    vi.advanceTimersByTime(250);
    expect(server.wires).toHaveLength(1);
    server.cut();
    vi.advanceTimersByTime(499);
    expect(server.wires).toHaveLength(0);
    vi.advanceTimersByTime(1);
    expect(server.wires).toHaveLength(1);
    expect(states).toEqual(["open", "lost", "lost"]);
    live.close();
  });

  it("gives a second listener its own place in the stream", () => {
    const server = new Server();
    server.stream = [1, 2, 3];
    const live = new Live(server.connect);
    const [first, second]: [number[], number[]] = [[], []];
    live.subscribe("numbers", 0, { onEvent: (event) => first.push(event as number) });
    server.accept();
    const stop = live.subscribe("numbers", 2, { onEvent: (event) => second.push(event as number) });
    server.publish(4);
    stop();
    server.publish(5);
    expect(first).toEqual([1, 2, 3, 4, 5]);
    expect(second).toEqual([3, 4]);
    live.close();
  });
});
