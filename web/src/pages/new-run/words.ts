/** A command line as its words, with quotes as a shell reads them. */
export function words(line: string): string[] {
  const found: string[] = [];
  for (const match of line.matchAll(/(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+/gs))
    found.push(match[0].replace(/\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'/gs, (_, one?: string, two?: string, three?: string) => one ?? two?.replace(/\\(["\\])/g, "$1") ?? three ?? ""));
  return found;
}

/** The other way round. */
export const line = (list: readonly string[]): string => list.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, `'\\''`)}'`)).join(" ");
