/** Which of some things fit a few letters, best first: the beginning of a word before its middle, letters in order at last. */

export function rank<T>(text: string, items: readonly T[], words: (item: T) => string): T[] {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return [...items];
  return items
    .map((item, index) => ({ item, index, score: score(wanted, words(item).toLowerCase()) }))
    .filter(({ score: each }) => each > 0)
    .sort((a, b) => b.score - a.score || a.index - b.index)
    .map(({ item }) => item);
}

function score(wanted: string, words: string): number {
  if (words.startsWith(wanted)) return 4;
  if (words.includes(` ${wanted}`) || words.includes(`-${wanted}`)) return 3;
  if (words.includes(wanted)) return 2;
  let at = 0;
  for (const letter of words) if (letter === wanted[at]) at += 1;
  return at === wanted.length ? 1 : 0;
}
