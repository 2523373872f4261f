/**
 * Every cap of a server (P6): one table gives the defaults, the flags, their help and their check.
 *
 * The byte budgets add up to 80 MiB by default; with the process itself and its open streams that fits a
 * container limit of 256 MiB (test/story/memory.test.ts).
 */

const MIB = 1 << 20;
const GIB = 2 ** 30;

interface LimitSpec {
  readonly unit: "bytes" | "ms" | "count";
  readonly value: number;
  readonly min: number;
  readonly max: number;
  readonly help: string;
}

/** The flag of `tailBytes` is `--tail-bytes`, and so on. */
export const LIMIT_SPECS = {
  tailBytes: {
    unit: "bytes",
    value: 24 * MIB,
    min: MIB,
    max: 64 * GIB,
    help: "all tails of main dispatchers together",
  },
  tailPartitionBytes: {
    unit: "bytes",
    value: 8 * MIB,
    min: 64 * 1024,
    max: 4 * GIB,
    help: "the tail of one partition",
  },
  catchUpBytes: {
    unit: "bytes",
    value: 20 * MIB,
    min: MIB,
    max: 64 * GIB,
    help: "all catch-up dispatchers together",
  },
  catchUpDispatchers: {
    unit: "count",
    value: 10,
    min: 1,
    max: 1000,
    help: "catch-up dispatchers at once; others wait their turn",
  },
  shareDistanceBytes: {
    unit: "bytes",
    value: 128 * MIB,
    min: 0,
    max: 64 * GIB,
    help: "a resuming client may wait for a catch-up at most this far behind it rather than start one",
  },
  sharedStallMs: {
    unit: "ms",
    value: 500,
    min: 1,
    max: 60_000,
    help: "how long a client that takes nothing may hold up a shared catch-up",
  },
  aloneStallMs: {
    unit: "ms",
    value: 5000,
    min: 1,
    max: 600_000,
    help: "how long a client that takes nothing may keep a catch-up of its own",
  },
  inFlightBytes: {
    unit: "bytes",
    value: 20 * MIB,
    min: MIB,
    max: 64 * GIB,
    help: "frames that clients have not taken yet, all together",
  },
  frameBytes: {
    unit: "bytes",
    value: 256 * 1024,
    min: 4096,
    max: 64 * MIB,
    help: "target size of a frame",
  },
  fetchBytes: {
    unit: "bytes",
    value: MIB / 2,
    min: 64 * 1024,
    max: 64 * MIB,
    help: "what one read from Kafka asks for",
  },
  pollMs: {
    unit: "ms",
    value: 1000,
    min: 10,
    max: 30_000,
    help: "longest wait of one read at the end of the log",
  },
  streams: {
    unit: "count",
    value: 5000,
    min: 1,
    max: 1_000_000,
    help: "open streams, of subscribers and of publishers each",
  },
  publishBytes: {
    unit: "bytes",
    value: 16 * MIB,
    min: MIB,
    max: 64 * GIB,
    help: "events received and not yet acknowledged by Kafka",
  },
  requestBytes: {
    unit: "bytes",
    value: 4 * MIB,
    min: 64 * 1024,
    max: GIB,
    help: "one message from a client",
  },
  requestEvents: {
    unit: "count",
    value: 10_000,
    min: 1,
    max: 1_000_000,
    help: "events of one message from a publisher",
  },
  drainMs: {
    unit: "ms",
    value: 20_000,
    min: 0,
    max: 3_600_000,
    help: "how long a drain waits for clients to leave",
  },
  connectionAgeMs: {
    unit: "ms",
    value: 0,
    min: 0,
    max: 86_400_000,
    help: "close connections so old, within a tenth of it, so that clients spread over new servers; 0: never",
  },
  loopBlockedMs: {
    unit: "ms",
    value: 5000,
    min: 100,
    max: 600_000,
    help: "a blocked event loop for longer makes the server unreliable",
  },
  readsStalledMs: {
    unit: "ms",
    value: 10_000,
    min: 100,
    max: 600_000,
    help: "a read that fails for longer, while look-ups work, makes the server unreliable",
  },
  writeBlockedMs: {
    unit: "ms",
    value: 30_000,
    min: 100,
    max: 600_000,
    help: "a stream whose client takes nothing of what was written for longer is told to move",
  },
  mirrorMs: {
    unit: "ms",
    value: 5000,
    min: 0,
    max: 3_600_000,
    help: "how often saved positions of sessions are shown as Kafka group offsets; 0: never",
  },
  memberLapseMs: {
    unit: "ms",
    value: 10_000,
    min: 1000,
    max: 3_600_000,
    help: "how long a member of a shared session may be silent before others have its partitions",
  },
  memberReturnMs: {
    unit: "ms",
    value: 3000,
    min: 0,
    max: 3_600_000,
    help: "how long a member whose connection broke keeps its partitions for its return",
  },
  memberRevokeMs: {
    unit: "ms",
    value: 5000,
    min: 0,
    max: 3_600_000,
    help: "how long a member has to acknowledge what it was sent of a partition that moves",
  },
  memberStuckMs: {
    unit: "ms",
    value: 300_000,
    min: 1000,
    max: 86_400_000,
    help: "a member whose oldest event is not acknowledged for longer loses its partitions",
  },
} as const satisfies Record<string, LimitSpec>;

export type LimitName = keyof typeof LIMIT_SPECS;
export type Limits = Readonly<Record<LimitName, number>>;

export const LIMIT_NAMES = Object.keys(LIMIT_SPECS) as LimitName[];

export const DEFAULT_LIMITS: Limits = Object.fromEntries(
  LIMIT_NAMES.map((name) => [name, LIMIT_SPECS[name].value]),
) as Limits;

/** What contradicts itself among limits that are each in range. One line each, naming the flags. */
export function contradictions(limits: Limits): string[] {
  const found: string[] = [];
  const atMost = (small: LimitName, large: LimitName): void => {
    if (limits[small] > limits[large]) {
      found.push(
        `${limitFlag(small)} (${limits[small]}) is larger than ${limitFlag(large)} (${limits[large]}).`,
      );
    }
  };
  atMost("tailPartitionBytes", "tailBytes");
  atMost("frameBytes", "inFlightBytes");
  atMost("requestBytes", "publishBytes");
  atMost("memberReturnMs", "memberLapseMs");
  return found;
}

export function limitFlag(name: LimitName): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
