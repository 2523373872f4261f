/**
 * How much of its container's memory a sidecar's byte budgets have (pure): the server's own presets where the limit
 * is the least that there is, and as much more as the limit is larger. What is named is as it is named; the others
 * share what it leaves, as their presets do.
 *
 * The presets are those of sidecar/limits.ts; test/operator/inject/byte-budgets.test.ts compares the two.
 */
import { bytesOf } from "../quantities.ts";

const KIB = 2 ** 10;
const MIB = 2 ** 20;

interface ByteBudget {
  /** At the least memory limit. */
  readonly preset: number;
  /** Below, a server refuses it. */
  readonly least: number;
}

/** By the server's flag. */
export const BYTE_BUDGETS = {
  "tail-bytes": { preset: 24 * MIB, least: MIB },
  "catch-up-bytes": { preset: 20 * MIB, least: MIB },
  "in-flight-bytes": { preset: 20 * MIB, least: MIB },
  "publish-bytes": { preset: 16 * MIB, least: 4 * MIB },
} as const satisfies Record<string, ByteBudget>;

export type BudgetName = keyof typeof BYTE_BUDGETS;
type NamedBudgets = Partial<Readonly<Record<BudgetName, number>>>;

const NAMES = Object.keys(BYTE_BUDGETS) as BudgetName[];
/** The presets fit it (README: Run a server). */
export const LEAST_MEMORY = "256Mi";
const LEAST_MEMORY_BYTES = bytesOf(LEAST_MEMORY);
/** One partition's tail is at most so large a part of all of them. */
const TAIL_PART = 1 / 3;

/** What those that are named may have together, in a container of this limit. */
export function roomFor(memoryBytes: number, named: NamedBudgets): number {
  const others = NAMES.filter((name) => named[name] === undefined);
  const presets = presetsOf(others);
  const kept = others.map(
    (name) => presets * (BYTE_BUDGETS[name].least / BYTE_BUDGETS[name].preset),
  );
  return total(memoryBytes) - Math.max(0, ...kept);
}

/** The server's flags; none where all are its presets. @param named must fit. */
export function budgetFlags(
  memoryBytes: number,
  named: NamedBudgets,
): Readonly<Record<string, string>> {
  const others = NAMES.filter((name) => named[name] === undefined);
  if (others.length === NAMES.length && memoryBytes === LEAST_MEMORY_BYTES) return {};
  const left = total(memoryBytes) - Object.values(named).reduce((sum, bytes) => sum + bytes, 0);
  const share = left / presetsOf(others);
  const of = (name: BudgetName): number => named[name] ?? BYTE_BUDGETS[name].preset * share;
  const flags: [string, number][] = NAMES.map((name) => [name, of(name)]);
  flags.push(["tail-partition-bytes", of("tail-bytes") * TAIL_PART]);
  return Object.fromEntries(flags.map(([name, bytes]) => [name, `${Math.floor(bytes / KIB)}Ki`]));
}

/** Of all budgets. */
function total(memoryBytes: number): number {
  return (memoryBytes / LEAST_MEMORY_BYTES) * presetsOf(NAMES);
}

function presetsOf(names: readonly BudgetName[]): number {
  return names.reduce((sum, name) => sum + BYTE_BUDGETS[name].preset, 0);
}
