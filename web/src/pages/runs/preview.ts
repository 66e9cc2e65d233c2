/** How a file is previewed, by its name; and a reader of separated values. */

export type Kind = "image" | "json" | "table" | "text" | "other";

export function kindOf(path: string): Kind {
  const ending = /\.(\w+)$/.exec(path.toLowerCase())?.[1] ?? "";
  if (["png", "jpg", "jpeg", "gif", "webp"].includes(ending)) return "image";
  if (ending === "json") return "json";
  if (["csv", "tsv"].includes(ending)) return "table";
  // SVG and HTML are shown as their source: drawn, they could run script.
  if (["txt", "log", "md", "yaml", "yml", "toml", "py", "sh", "ini", "cfg", "svg", "html", "xml", "jsonl", "rst", "diff", "patch", "mlmodel", "lock"].includes(ending) || !path.split("/").at(-1)?.includes(".")) return "text";
  return "other";
}

/** Rows of separated values (RFC 4180), at most `most`. */
export function csv(text: string, separator = ",", most = Infinity): string[][] {
  const rows: string[][] = [];
  let [row, cell, quoted] = [[] as string[], "", false];
  const end = () => {
    row.push(cell);
    cell = "";
  };
  for (let i = 0; i < text.length && rows.length < most; i++) {
    const letter = text[i] ?? "";
    if (quoted) {
      if (letter !== '"') cell += letter;
      else if (text[i + 1] === '"') {
        cell += '"';
        i += 1;
      } else quoted = false;
    } else if (letter === '"' && cell === "") quoted = true;
    else if (letter === separator) end();
    else if (letter === "\n") {
      end();
      rows.push(row);
      row = [];
    } else if (letter !== "\r") cell += letter;
  }
  if ((cell !== "" || row.length > 0) && rows.length < most) {
    end();
    rows.push(row);
  }
  return rows;
}
