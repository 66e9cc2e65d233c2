/** The output of a job: only the lines in sight exist; it follows the end until one scrolls up. Colours are spans, never markup. */
import { ActionIcon, Button, TextInput } from "@mantine/core";
import { IconArrowDown, IconSearch, IconTextWrap } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useMemo, useRef, useState } from "react";
import { spans } from "./ansi";
import css from "./LogView.module.css";

export function LogView({ lines, height = 420, note, label = "Output" }: { lines: readonly string[]; height?: number | string; note?: string | undefined; label?: string }) {
  const scroller = useRef<HTMLDivElement>(null);
  const [follow, setFollow] = useState(true);
  const [wrap, setWrap] = useState(true);
  const [text, setText] = useState("");
  const found = useMemo(() => {
    const wanted = text.toLowerCase();
    return wanted ? lines.flatMap((line, i) => (line.toLowerCase().includes(wanted) ? [i] : [])) : null;
  }, [lines, text]);
  const count = found ? found.length : lines.length;
  const virtual = useVirtualizer({ count, getScrollElement: () => scroller.current, estimateSize: () => 18, overscan: 30 });

  useEffect(() => {
    if (follow && count > 0) virtual.scrollToIndex(count - 1, { align: "end" });
  }, [follow, count, virtual]);

  const onScroll = () => {
    const element = scroller.current;
    if (element) setFollow(element.scrollHeight - element.scrollTop - element.clientHeight < 30);
  };
  return (
    <div className={css.log}>
      <div className={css.bar}>
        <TextInput value={text} onChange={(event) => setText(event.currentTarget.value)} placeholder="Find in output" aria-label="Find in output" leftSection={<IconSearch size={13} />} w={220} />
        <span className="dim">{found ? `${count.toLocaleString("en-US")} of ${lines.length.toLocaleString("en-US")} lines` : `${count.toLocaleString("en-US")} lines`}{note ? ` · ${note}` : ""}</span>
        <span style={{ flex: 1 }} />
        {!follow && <Button variant="default" leftSection={<IconArrowDown size={13} />} onClick={() => setFollow(true)}>Follow</Button>}
        <ActionIcon aria-label="Wrap long lines" aria-pressed={wrap} variant={wrap ? "light" : "subtle"} color={wrap ? "accent" : "gray"} onClick={() => setWrap(!wrap)}><IconTextWrap size={15} /></ActionIcon>
      </div>
      <div ref={scroller} className={css.scroll} style={{ height }} onScroll={onScroll} tabIndex={0} role="log" aria-label={label} aria-live="off">
        <div style={{ height: virtual.getTotalSize(), position: "relative" }}>
          {virtual.getVirtualItems().map((item) => {
            const number = found ? (found[item.index] ?? 0) : item.index;
            return (
              <div key={item.key} ref={virtual.measureElement} data-index={item.index} className={css.line} data-wrap={wrap || undefined} style={{ transform: `translateY(${item.start}px)` }}>
                <span className={css.number} aria-hidden>{number + 1}</span>
                <span className={css.text}>
                  {spans(lines[number] ?? "").map((span, i) => (
                    <span key={i} data-color={span.color ?? undefined} data-bold={span.bold || undefined} data-faint={span.faint || undefined}>{span.text}</span>
                  ))}
                </span>
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}
