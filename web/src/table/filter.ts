/** The filter language of tables: `state:running lr>0.01 name~resnet -tag:old "two words"`.
 *
 * A bare word must occur in any shown text; `key:value` must be equal (several for one key: any of them); `key~text` must
 * contain it; `key>1`, `>=`, `<`, `<=`, `!=` compare. A `-` before a term turns it round. Unfinished input filters nothing.
 */

export type Operator = ":" | "~" | ">" | ">=" | "<" | "<=" | "!=" | "word";

export interface Term {
  key: string;
  operator: Operator;
  value: string;
  not: boolean;
}

export type Cell = string | number | boolean | null | undefined | readonly string[];

const TERM = /(-)?(?:([\w./@%+-]*?[\w/@%+.])\s*(>=|<=|!=|:|~|>|<|=))?("(?:[^"\\]|\\.)*"?|[^\s"]+)?/y;

export function parse(text: string): Term[] {
  const terms: Term[] = [];
  let at = 0;
  while (at < text.length) {
    if (/\s/.test(text[at] ?? "")) {
      at += 1;
      continue;
    }
    TERM.lastIndex = at;
    const match = TERM.exec(text);
    if (!match || match[0] === "") {
      at += 1;
      continue;
    }
    at = TERM.lastIndex;
    const [, minus, key = "", operator, raw = ""] = match;
    const value = raw.startsWith('"') ? raw.slice(1, raw.endsWith('"') && raw.length > 1 ? -1 : undefined).replace(/\\(.)/g, "$1") : raw;
    if (value === "") continue;
    terms.push({ key, operator: operator === "=" ? ":" : ((operator as Operator | undefined) ?? "word"), value, not: minus === "-" });
  }
  return terms;
}

/** Whether one cell meets one term's operator and value. */
function meets(cell: Cell, operator: Operator, value: string): boolean {
  if (cell === null || cell === undefined) return false;
  if (Array.isArray(cell)) return (cell as readonly string[]).some((each) => meets(each, operator, value));
  const text = String(cell).toLowerCase();
  const wanted = value.toLowerCase();
  if (operator === "~" || operator === "word") return text.includes(wanted);
  const [left, right] = [typeof cell === "number" ? cell : Number(text || "x"), Number(wanted)];
  const numeric = Number.isFinite(left) && Number.isFinite(right);
  if (operator === ":") return numeric ? left === right : text === wanted;
  if (operator === "!=") return numeric ? left !== right : text !== wanted;
  if (!numeric) return false;
  if (operator === ">") return left > right;
  if (operator === ">=") return left >= right;
  return operator === "<" ? left < right : left <= right;
}

/** A predicate for rows, from the text. `cell` reads a row's value by key; `words` is all text that bare words search, in lower case. */
export function predicate<T>(text: string, cell: (row: T, key: string) => Cell, words: (row: T) => string): (row: T) => boolean {
  const terms = parse(text);
  const equal = new Map<string, string[]>();
  const rest: Term[] = [];
  for (const term of terms) {
    if (term.operator === ":" && !term.not) equal.set(term.key, [...(equal.get(term.key) ?? []), term.value]);
    else rest.push(term.operator === "word" ? { ...term, value: term.value.toLowerCase() } : term);
  }
  return (row) => {
    for (const [key, values] of equal) if (!values.some((value) => meets(cell(row, key), ":", value))) return false;
    for (const term of rest) {
      const found = term.operator === "word" ? words(row).includes(term.value) : meets(cell(row, term.key), term.operator, term.value);
      if (found === term.not) return false;
    }
    return true;
  };
}

/** The text with `key:value` switched on or off, for filters that are clicked. */
export function toggle(text: string, key: string, value: string): string {
  const written = /\s/.test(value) ? `${key}:"${value}"` : `${key}:${value}`;
  const parts = text.split(/\s+(?=(?:[^"]*"[^"]*")*[^"]*$)/).filter(Boolean);
  return (parts.includes(written) ? parts.filter((part) => part !== written) : [...parts, written]).join(" ");
}
