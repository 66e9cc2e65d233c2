/** A line as small as a word: the shape of a series, without axes. */
import { extent } from "./series";

export function Sparkline({ values, width = 96, height = 22, label }: { values: readonly number[]; width?: number; height?: number; label: string }) {
  const numbers = values.filter(Number.isFinite);
  const range = extent([Float64Array.from(numbers)]);
  if (!range || numbers.length < 2) return <svg width={width} height={height} role="img" aria-label={`${label}: no curve yet`} />;
  const [low, high] = range;
  const points = numbers
    .map((each, i) => `${((i / (numbers.length - 1)) * (width - 2) + 1).toFixed(1)},${(height - 2 - ((each - low) / (high - low || 1)) * (height - 4)).toFixed(1)}`)
    .join(" ");
  return (
    <svg width={width} height={height} role="img" aria-label={`${label}: from ${numbers[0]} to ${numbers.at(-1)}`}>
      <polyline points={points} fill="none" stroke="var(--accent)" strokeWidth={1.4} strokeLinejoin="round" />
    </svg>
  );
}
