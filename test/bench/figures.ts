/** What a benchmark found, and how it is told: minimum, median and maximum, the yardstick, the ratio. */

export interface Figure {
  readonly what: string;
  readonly unit: string;
  readonly ours: readonly number[];
  /** The same in the same run: a peer's, Kafka's own tool's, or our own without the thing measured. */
  readonly yardstick?: { readonly name: string; readonly values: readonly number[] };
  /** What to reach, for the median of ours; `ratio` for ours over the yardstick's. */
  readonly goal?:
    | { readonly atMost: number }
    | { readonly atLeast: number }
    | { readonly ratioAtMost: number }
    | { readonly ratioAtLeast: number };
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? Number.NaN;
}

/** The value below which this share of the values lies. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function reached(figure: Figure): boolean | undefined {
  const { goal, yardstick } = figure;
  if (goal === undefined) return undefined;
  const ours = median(figure.ours);
  const ratio = yardstick ? ours / median(yardstick.values) : Number.NaN;
  if ("atMost" in goal) return ours <= goal.atMost;
  if ("atLeast" in goal) return ours >= goal.atLeast;
  if ("ratioAtMost" in goal) return ratio <= goal.ratioAtMost;
  return ratio >= goal.ratioAtLeast;
}

export function told(figure: Figure): string {
  const { what, unit, ours, yardstick, goal } = figure;
  const words = [`${what}: ${spread(ours)} ${unit}`];
  if (yardstick) {
    words.push(`${yardstick.name} ${spread(yardstick.values)}`);
    words.push(`ratio ${number(median(ours) / median(yardstick.values))}`);
  }
  if (goal) {
    const [[rule, bound]] = Object.entries(goal) as [[string, number]];
    const name = rule.startsWith("ratio") ? "ratio " : "";
    const sign = /atMost$/i.test(rule) ? "at most" : "at least";
    words.push(`goal ${name}${sign} ${number(bound)}: ${reached(figure) ? "reached" : "MISSED"}`);
  }
  return words.join("; ");
}

/** Minimum, median and maximum. */
function spread(values: readonly number[]): string {
  if (values.length === 1) return number(values[0] as number);
  return `${number(Math.min(...values))} / ${number(median(values))} / ${number(Math.max(...values))}`;
}

function number(value: number): string {
  if (!Number.isFinite(value)) return "?";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}
