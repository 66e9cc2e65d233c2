/** A metric's series in the browser: decoded from the binary body, extended live, smoothed, looked up. Pure. */

export interface Series {
  steps: Float64Array;
  times: Float64Array; // seconds since 1970
  /** Of one point each, or of the least and greatest of a bucket where the server has thinned the series out. */
  min: Float64Array;
  max: Float64Array;
  thinned: boolean;
}

export const empty: Series = {
  steps: new Float64Array(0), times: new Float64Array(0), min: new Float64Array(0), max: new Float64Array(0), thinned: false,
};

/** `series` followed by those of `more` that lie beyond its last step: history and live points join without gap or duplicate. */
export function extended(series: Series, more: Series): Series {
  const last = series.steps.at(-1) ?? -Infinity;
  let from = 0;
  while (from < more.steps.length && (more.steps[from] ?? 0) <= last) from++;
  if (from === more.steps.length) return series;
  const join = (a: Float64Array, b: Float64Array) => {
    const out = new Float64Array(a.length + b.length - from);
    out.set(a);
    out.set(b.subarray(from), a.length);
    return out;
  };
  return {
    steps: join(series.steps, more.steps),
    times: join(series.times, more.times),
    min: join(series.min, more.min),
    max: join(series.max, more.max),
    thinned: series.thinned || more.thinned,
  };
}

/** The middle of each bucket, smoothed exponentially and without the pull towards zero at the start. 0 is as it is. */
export function smoothed(series: Series, weight: number): Float64Array {
  const out = new Float64Array(series.min.length);
  let [average, mass] = [0, 0];
  for (let i = 0; i < out.length; i++) {
    const middle = ((series.min[i] ?? NaN) + (series.max[i] ?? NaN)) / 2;
    if (weight <= 0 || !Number.isFinite(middle)) {
      out[i] = middle;
      continue;
    }
    average = weight * average + (1 - weight) * middle;
    mass = weight * mass + (1 - weight);
    out[i] = average / mass;
  }
  return out;
}

/** The index of the value nearest to `x` in ascending `xs`; -1 of nothing. */
export function nearest(xs: Float64Array, x: number): number {
  if (xs.length === 0) return -1;
  let [low, high] = [0, xs.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((xs[middle] ?? 0) < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - (xs[low - 1] ?? 0) < (xs[low] ?? 0) - x ? low - 1 : low;
}

/** The least and greatest finite values, null where there are none; with `positive`, of those above zero. */
export function extent(arrays: Iterable<Float64Array>, positive = false): [number, number] | null {
  let [low, high] = [Infinity, -Infinity];
  for (const array of arrays)
    for (const each of array) {
      if (!Number.isFinite(each) || (positive && each <= 0)) continue;
      if (each < low) low = each;
      if (each > high) high = each;
    }
  return low <= high ? [low, high] : null;
}

/** The extent without the most extreme hundredth at either end. */
export function middle(arrays: Iterable<Float64Array>, positive = false): [number, number] | null {
  const values: number[] = [];
  for (const array of arrays) for (const each of array) if (Number.isFinite(each) && (!positive || each > 0)) values.push(each);
  if (values.length < 50) return extent([Float64Array.from(values)], positive);
  values.sort((a, b) => a - b);
  const cut = Math.max(1, Math.floor(values.length / 100));
  return [values[cut] ?? 0, values[values.length - 1 - cut] ?? 0];
}
