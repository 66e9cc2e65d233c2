/** ANSI colours as data: text becomes spans with a style name. Every other escape is dropped; nothing becomes markup. */

export interface Span {
  text: string;
  color: number | null; // 0-7 normal, 8-15 bright
  bold: boolean;
  faint: boolean;
}

// eslint-disable-next-line no-control-regex -- these control characters are what is looked for
const ESCAPE = /\u001b(?:\[([0-9;:?]*)([@-~])|\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|[@-Z\\-_])/g;
// eslint-disable-next-line no-control-regex -- control characters that are not shown
const UNSEEN = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** What a terminal would leave of a line with carriage returns: progress bars overwrite themselves. */
export function overwritten(line: string): string {
  const trimmed = line.endsWith("\r") ? line.slice(0, -1) : line;
  const last = trimmed.lastIndexOf("\r");
  return last === -1 ? trimmed : trimmed.slice(last + 1);
}

export function spans(line: string): Span[] {
  const result: Span[] = [];
  let style = { color: null as number | null, bold: false, faint: false };
  const put = (text: string) => {
    const clean = text.replace(UNSEEN, "");
    if (clean) result.push({ text: clean, ...style });
  };
  let at = 0;
  for (const match of line.matchAll(ESCAPE)) {
    put(line.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] === "m") style = applied(style, (match[1] ?? "").split(/[;:]/).map(Number));
  }
  put(line.slice(at));
  return result;
}

function applied(style: Omit<Span, "text">, codes: number[]): Omit<Span, "text"> {
  let next = { ...style };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i] ?? 0;
    if (code === 0) next = { color: null, bold: false, faint: false };
    else if (code === 1) next.bold = true;
    else if (code === 2) next.faint = true;
    else if (code === 22) next = { ...next, bold: false, faint: false };
    else if (code >= 30 && code <= 37) next.color = code - 30;
    else if (code >= 90 && code <= 97) next.color = code - 82;
    else if (code === 39) next.color = null;
    else if (code === 38 || code === 48) {
      const wide = codes[i + 1] === 5;
      const index = codes[i + 2] ?? 16;
      if (code === 38) next.color = wide && index < 16 ? index : null;
      i += wide ? 2 : 4;
    }
  }
  return next;
}

/** Joins chunks of a byte stream to lines. A UTF-8 character or a line may be cut anywhere between two chunks. */
export class Lines {
  readonly lines: string[] = [];
  private decoder = new TextDecoder("utf-8", { fatal: false });
  private tail = "";

  add(chunk: Uint8Array): void {
    const text = this.tail + this.decoder.decode(chunk, { stream: true });
    const parts = text.split("\n");
    this.tail = parts.pop() ?? "";
    for (const part of parts) this.lines.push(overwritten(part));
  }

  /** All lines, the unfinished last one among them. */
  all(): string[] {
    return this.tail ? [...this.lines, overwritten(this.tail)] : this.lines;
  }

  reset(): void {
    this.lines.length = 0;
    this.tail = "";
    this.decoder = new TextDecoder("utf-8", { fatal: false });
  }
}
