/** The table of the console: thousands of rows, of which only those in sight exist. Sorting, columns and filter live in the
 * address; rows are walked with the arrow keys, opened with Enter, picked with Space. */
import { Checkbox, Popover, TextInput } from "@mantine/core";
import { IconArrowDown, IconArrowUp, IconColumns3, IconFilter } from "@tabler/icons-react";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useEffect, useMemo, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Button } from "@mantine/core";
import { predicate, type Cell } from "./filter";
import { compareCells, nextSort, parseSort } from "./sort";
import css from "./Table.module.css";

export interface Column<T> {
  key: string;
  label: string;
  width: number;
  /** What sorting and filtering see. */
  cell: (row: T) => Cell;
  /** What is shown; the cell's text without it. */
  show?: (row: T) => ReactNode;
  numeric?: boolean;
  /** Not among the columns that are shown at first. */
  optional?: boolean;
  /** Takes what the others leave of the width. */
  grow?: boolean;
  /** Names of groups in the column picker. */
  group?: string;
}

export interface View {
  q?: string | undefined;
  sort?: string | undefined;
  columns?: string | undefined;
}

interface Props<T> {
  label: string;
  rows: readonly T[];
  columns: readonly Column<T>[];
  rowKey: (row: T) => string;
  view: View;
  onView: (view: View) => void;
  onOpen?: (row: T) => void;
  height?: number | string;
  picked?: ReadonlySet<string>;
  onPick?: (picked: Set<string>) => void;
  hint?: string;
  tools?: ReactNode;
  empty?: ReactNode;
  /** Text before the rows of one group; rows must come sorted by it. */
  noun?: string;
  total?: number;
}

export const ROW = 34;

export function Table<T>({ label, rows, columns, rowKey, view, onView, onOpen, height = 520, picked, onPick, hint, tools, empty, noun = "row", total }: Props<T>) {
  const scroller = useRef<HTMLDivElement>(null);
  const [active, setActive] = useState(0);
  const [typed, setTyped] = useState(view.q ?? "");
  const text = useDeferredValue(typed);

  useEffect(() => setTyped(view.q ?? ""), [view.q]);
  useEffect(() => {
    if (text === (view.q ?? "")) return;
    const timer = setTimeout(() => onView({ ...view, q: text || undefined }), 250);
    return () => clearTimeout(timer);
    // The address follows what is typed, not the other way round.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [text]);

  const shown = useMemo(() => {
    const chosen = view.columns?.split(",");
    return chosen ? chosen.map((key) => columns.find((column) => column.key === key)).filter((column) => column !== undefined) : columns.filter((column) => !column.optional);
  }, [columns, view.columns]);

  // The text of a row is made once, not at every letter that is typed.
  const words = useMemo(() => {
    const made = new Map<T, string>();
    return (row: T) => {
      let known = made.get(row);
      if (known === undefined) made.set(row, (known = columns.map((column) => (column.optional && column.numeric ? "" : String(column.cell(row) ?? ""))).join(" ").toLowerCase()));
      return known;
    };
  }, [columns]);
  const visible = useMemo(() => {
    const byKey = new Map(columns.map((column) => [column.key, column]));
    const kept = text.trim() ? rows.filter(predicate(text, (row, key) => byKey.get(key)?.cell(row), words)) : rows;
    const sort = parseSort(view.sort);
    const column = sort && byKey.get(sort.key);
    if (!sort || !column) return kept;
    return [...kept].sort((a, b) => compareCells(column.cell(a), column.cell(b), sort.descending));
  }, [rows, columns, words, text, view.sort]);

  const virtual = useVirtualizer({ count: visible.length, getScrollElement: () => scroller.current, estimateSize: () => ROW, overscan: 12 });
  const width = shown.reduce((sum, column) => sum + column.width, onPick ? 36 : 0);
  // The first column of words takes some of the room that is left, one that says so all of it.
  const size = (column: Column<T>) => (column.grow ? { flex: `1000 1 ${column.width}px` } : column === shown[0] && !column.numeric ? { flex: `1 1 ${column.width}px`, maxWidth: column.width * 1.8 } : { width: column.width });
  const sort = parseSort(view.sort);
  const current = Math.min(active, Math.max(0, visible.length - 1));

  const move = (to: number) => {
    const next = Math.max(0, Math.min(visible.length - 1, to));
    setActive(next);
    virtual.scrollToIndex(next);
    requestAnimationFrame(() => scroller.current?.querySelector<HTMLElement>(`[data-row="${next}"]`)?.focus({ preventScroll: true }));
  };
  const pick = (row: T) => {
    if (!onPick) return;
    const next = new Set(picked);
    const key = rowKey(row);
    if (!next.delete(key)) next.add(key);
    onPick(next);
  };
  const onKey = (event: KeyboardEvent) => {
    if ((event.target as HTMLElement).closest("input, button")) return;
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -1e9, End: 1e9 }[event.key];
    const row = visible[current];
    if (step !== undefined) move(current + step);
    else if (event.key === "Enter" && row !== undefined && onOpen && !(event.target as HTMLElement).closest("a")) onOpen(row);
    else if (event.key === " " && row !== undefined && onPick) pick(row);
    else return;
    event.preventDefault();
  };
  if (rows.length === 0 && empty) return <>{empty}</>;
  const everyPicked = onPick && visible.length > 0 && visible.every((row) => picked?.has(rowKey(row)));

  return (
    <div className={css.table}>
      <div className={css.bar}>
        <TextInput
          className={css.filter} value={typed} onChange={(event) => setTyped(event.currentTarget.value)} aria-label={`Filter ${label}`} placeholder={hint ?? "Filter: words, state:running, name~text"}
          leftSection={<IconFilter size={13} stroke={1.8} />} spellCheck={false}
          onKeyDown={(event) => { if (event.key === "ArrowDown") { event.preventDefault(); move(0); } }}
        />
        <span className={css.count} role="status">{visible.length === rows.length ? `${(total ?? rows.length).toLocaleString("en-US")} ${rows.length === 1 ? noun : `${noun}s`}` : `${visible.length.toLocaleString("en-US")} of ${rows.length.toLocaleString("en-US")}`}</span>
        <span className={css.grow} />
        {tools}
        <Picker columns={columns} shown={shown.map((column) => column.key)} onChange={(keys) => onView({ ...view, columns: keys?.join(",") })} />
      </div>
      <div ref={scroller} className={css.scroll} style={{ height: `min(${typeof height === "number" ? `${height}px` : height}, ${(visible.length || 3) * ROW + 44}px)` }} role="table" aria-label={label} aria-rowcount={visible.length + 1} tabIndex={visible.length === 0 ? 0 : -1} onKeyDown={onKey}>
        <div className={css.head} role="row" aria-rowindex={1} style={{ minWidth: width }}>
          {onPick && (
            <div role="columnheader" className={css.pick}>
              <Checkbox aria-label="Pick all shown" checked={Boolean(everyPicked)} onChange={() => onPick(everyPicked ? new Set() : new Set(visible.map(rowKey)))} />
            </div>
          )}
          {shown.map((column) => (
            <div
              key={column.key} role="columnheader" style={size(column)} className={column.numeric ? css.numeric : undefined}
              aria-sort={sort?.key === column.key ? (sort.descending ? "descending" : "ascending") : "none"}
            >
              <button type="button" onClick={() => onView({ ...view, sort: nextSort(view.sort, column.key, Boolean(column.numeric)) })} title={column.label}>
                <span className="truncate">{column.label}</span>
                {sort?.key === column.key && (sort.descending ? <IconArrowDown size={12} aria-hidden /> : <IconArrowUp size={12} aria-hidden />)}
              </button>
            </div>
          ))}
          <div role="columnheader" className={css.rest} aria-label="" />
        </div>
        {visible.length === 0 && <div role="row"><div role="cell" className={css.none}>Nothing fits this filter. <button type="button" onClick={() => setTyped("")}>Clear it</button></div></div>}
        <div role="rowgroup" style={{ height: virtual.getTotalSize(), minWidth: width, position: "relative" }}>
          {virtual.getVirtualItems().map((item) => {
            const row = visible[item.index] as T;
            const key = rowKey(row);
            return (
              <div
                key={key} role="row" aria-rowindex={item.index + 2} aria-selected={onPick ? picked?.has(key) : undefined} data-row={item.index} tabIndex={item.index === current ? 0 : -1}
                className={css.row} style={{ transform: `translateY(${item.start}px)` }} onFocus={() => setActive(item.index)}
                onClick={(event) => { if (onOpen && !(event.target as HTMLElement).closest("a, button, input, label") && !getSelection()?.toString()) onOpen(row); }}
                data-open={onOpen ? "" : undefined}
              >
                {onPick && (
                  <div role="cell" className={css.pick}>
                    <Checkbox aria-label={`Pick ${key}`} tabIndex={-1} checked={picked?.has(key) ?? false} onChange={() => pick(row)} />
                  </div>
                )}
                {shown.map((column) => (
                  <div key={column.key} role="cell" style={size(column)} className={`truncate ${column.numeric ? css.numeric : ""}`}>
                    {column.show ? column.show(row) : String(column.cell(row) ?? "–")}
                  </div>
                ))}
                <div role="cell" className={css.rest} />
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

function Picker<T>({ columns, shown, onChange }: { columns: readonly Column<T>[]; shown: readonly string[]; onChange: (keys: string[] | undefined) => void }) {
  const [text, setText] = useState("");
  const found = columns.filter((column) => column.label.toLowerCase().includes(text.toLowerCase()));
  const groups = [...new Set(found.map((column) => column.group ?? ""))];
  return (
    <Popover position="bottom-end" width={260} trapFocus>
      <Popover.Target>
        <Button variant="default" leftSection={<IconColumns3 size={14} stroke={1.7} />}>Columns</Button>
      </Popover.Target>
      <Popover.Dropdown p={8}>
        {columns.length > 12 && <TextInput placeholder="Find a column" aria-label="Find a column" value={text} onChange={(event) => setText(event.currentTarget.value)} mb={8} />}
        <div className={css.columns} tabIndex={0} role="group" aria-label="Columns that are shown">
          {groups.map((group) => (
            <div key={group}>
              {group && <h3>{group}</h3>}
              {found.filter((column) => (column.group ?? "") === group).slice(0, 200).map((column) => (
                <Checkbox
                  key={column.key} label={column.label} checked={shown.includes(column.key)}
                  onChange={(event) => {
                    const next = event.currentTarget.checked ? [...shown, column.key] : shown.filter((key) => key !== column.key);
                    onChange(next.length ? next : undefined);
                  }}
                />
              ))}
            </div>
          ))}
        </div>
        <Button variant="subtle" size="compact-xs" mt={6} onClick={() => onChange(undefined)}>Back to the usual ones</Button>
      </Popover.Dropdown>
    </Popover>
  );
}
