/**
 * Opening a stream: checks everything that the client said before anything is read (P10), then resolves
 * the start to one position per partition.
 */
import type { Log, LogLoss, OffsetSpec, Position, TopicInfo } from "../kafka/log.ts";
import type {
  EventPosition,
  Loss,
  Recovery,
  Start,
  SubscribeOpen,
} from "../proto/gen/throughline/v1/throughline.ts";
import type { CatalogTopic } from "./catalog.ts";
import { CreditBalance } from "./credit.ts";
import { Failure } from "./failure.ts";
import { type Admits, compileFilter } from "./filter.ts";
import { findSequence } from "./sequence-start.ts";
import { readSession, type SessionOptions } from "./sessions/session-options.ts";
import { decodeToken, type TokenIdentity } from "./token.ts";

const DEFAULT_FRAME_BYTES = 1 << 20;
const MIN_FRAME_BYTES = 16 * 1024;
const MAX_FRAME_BYTES = 64 << 20;
const DEFAULT_HEARTBEAT_MS = 5000;
export const RECOVERY_EARLIEST = 2;
export const RECOVERY_LATEST = 3;
/** What a lost position is called in the API. */
export const LOSSES: Record<LogLoss["kind"], Loss> = {
  "before-earliest": 1,
  truncated: 2,
  gone: 3,
  "past-end": 4,
};

export interface OpenOptions {
  readonly credit: CreditBalance;
  readonly admits: Admits | undefined;
  readonly recovery: Recovery;
  readonly maxFrameBytes: number;
  readonly heartbeatMs: number;
  readonly session: SessionOptions | undefined;
}

/** @throws Failure naming the field. */
export function readOptions(open: SubscribeOpen): OpenOptions {
  const recovery = open.recovery as number;
  if (recovery < 0 || recovery > 3) {
    throw new Failure("INVALID_REQUEST", `open.recovery: ${recovery} is not a recovery preset.`);
  }
  const maxFrameBytes = open.maxFrameBytes || DEFAULT_FRAME_BYTES;
  if (maxFrameBytes < MIN_FRAME_BYTES || maxFrameBytes > MAX_FRAME_BYTES) {
    throw new Failure(
      "INVALID_REQUEST",
      `open.max_frame_bytes: is ${maxFrameBytes}; must be ${MIN_FRAME_BYTES} to ${MAX_FRAME_BYTES}, or 0.`,
    );
  }
  const heartbeatMs = open.heartbeatMs || DEFAULT_HEARTBEAT_MS;
  if (heartbeatMs < 100 || heartbeatMs > 60_000) {
    throw new Failure(
      "INVALID_REQUEST",
      `open.heartbeat_ms: is ${heartbeatMs}; must be 100 to 60000, or 0.`,
    );
  }
  return {
    credit: new CreditBalance(open.credit),
    admits: compileFilter(open.filter),
    recovery: open.recovery,
    maxFrameBytes,
    heartbeatMs,
    session: open.session && readSession(open.session),
  };
}

/** Where each partition starts. `verified`: Kafka gave it just now, so it need not be judged again. */
export type ResolvedStart =
  | {
      readonly kind: "positions";
      readonly positions: readonly Position[];
      readonly verified: boolean;
      /** Offsets that the app has already, by partition. */
      readonly after: ReadonlyMap<number, number>;
    }
  /** The token is of this topic before it was recreated; `to` is where recovery goes on. */
  | {
      readonly kind: "recreated";
      readonly positions: readonly Position[];
      readonly to: readonly Position[];
    };

/** @throws Failure */
export async function resolveStart(
  log: Log,
  info: TopicInfo,
  topic: CatalogTopic,
  identity: TokenIdentity,
  recovery: Recovery,
  start: Start | undefined,
): Promise<ResolvedStart> {
  const at = start?.at;
  const none = new Map<number, number>();
  switch (at?.$case) {
    case "token": {
      const read = decodeToken(at.value.token, identity, topic.partitions);
      if (read.kind === "recreated") {
        return { ...read, to: await afterRecreation(log, info, topic, recovery) };
      }
      const after = readAfter(at.value.after, read.positions);
      return { kind: "positions", positions: read.positions, verified: false, after };
    }
    case "sequence":
      return {
        kind: "positions",
        positions: [await lookUpSequence(log, info, topic, at.value)],
        verified: true,
        after: none,
      };
    case "timeMs": {
      const timeMs = Number(at.value);
      if (!Number.isSafeInteger(timeMs) || timeMs < 0) {
        throw new Failure(
          "INVALID_REQUEST",
          `open.start.time_ms: is ${at.value}; must be 0 or more.`,
        );
      }
      return {
        kind: "positions",
        positions: await lookUp(log, info, { timeMs }),
        verified: true,
        after: none,
      };
    }
    case "earliest":
      return {
        kind: "positions",
        positions: await lookUp(log, info, "earliest"),
        verified: true,
        after: none,
      };
    default:
      return {
        kind: "positions",
        positions: await lookUp(log, info, "latest"),
        verified: true,
        after: none,
      };
  }
}

/** @throws Failure POSITION_LOST where the log does not have it, and it is not the next to come. */
async function lookUpSequence(
  log: Log,
  info: TopicInfo,
  topic: CatalogTopic,
  sequence: bigint,
): Promise<Position> {
  if (topic.ordering !== "Commit") {
    throw new Failure(
      "INVALID_REQUEST",
      `open.start.sequence: topic "${topic.name}" has ordering ${topic.ordering}; only Commit has order values.`,
    );
  }
  if (sequence < 1n || sequence > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Failure("INVALID_REQUEST", `open.start.sequence: is ${sequence}; they begin at 1.`);
  }
  const earliest = await lookUpOne(log, info, 0, "earliest");
  const latest = await lookUpOne(log, info, 0, "latest");
  const range = { start: earliest.offset, end: latest.offset };
  const found = await findSequence(log, info, Number(sequence), range);
  if (found.kind === "at")
    return found.offset === latest.offset ? latest : { offset: found.offset, epoch: -1 };
  throw new Failure(
    "POSITION_LOST",
    found.kind === "past-end"
      ? `Topic "${topic.name}" has no event ${sequence} yet, nor the one before it.`
      : `Event ${sequence} of topic "${topic.name}" is not in the log any more.`,
    { loss: LOSSES[found.kind], earliest: [{ partition: 0, offset: BigInt(found.earliest) }] },
  );
}

function readAfter(
  after: readonly { partition: number; offset: bigint }[],
  positions: readonly Position[],
): Map<number, number> {
  const result = new Map<number, number>();
  for (const [i, { partition, offset }] of after.entries()) {
    const position = positions[partition];
    const field = `open.start.token.after[${i}]`;
    if (position === undefined) {
      throw new Failure(
        "INVALID_REQUEST",
        `${field}.partition: the topic has no partition ${partition}.`,
      );
    }
    if (result.has(partition)) {
      throw new Failure("INVALID_REQUEST", `${field}.partition: ${partition} is named twice.`);
    }
    if (offset > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new Failure("INVALID_REQUEST", `${field}.offset: ${offset} is impossible.`);
    }
    if (Number(offset) >= position.offset) result.set(partition, Number(offset));
  }
  return result;
}

/** Where a position of the topic before it was recreated goes on. @throws Failure POSITION_LOST */
export async function afterRecreation(
  log: Log,
  info: TopicInfo,
  topic: CatalogTopic,
  recovery: Recovery,
): Promise<Position[]> {
  if (recovery === RECOVERY_EARLIEST) return lookUp(log, info, "earliest");
  if (recovery === RECOVERY_LATEST) return lookUp(log, info, "latest");
  throw new Failure(
    "POSITION_LOST",
    `Topic "${topic.name}" was recreated after this position was stored.`,
    { loss: LOSSES.gone, earliest: await earliestOf(log, info) },
  );
}

/** The earliest event of each partition that tells it. */
export async function earliestOf(log: Log, info: TopicInfo): Promise<EventPosition[]> {
  const found = await Promise.all(
    Array.from({ length: info.partitions }, (_, p) => log.offset(info, p, "earliest")),
  );
  return found.flatMap((outcome, partition) =>
    outcome.kind === "offset" ? [{ partition, offset: BigInt(outcome.offset) }] : [],
  );
}

/** Looks up one place in every partition. @throws Failure */
export function lookUp(log: Log, info: TopicInfo, spec: OffsetSpec): Promise<Position[]> {
  return Promise.all(
    Array.from({ length: info.partitions }, (_, partition) =>
      lookUpOne(log, info, partition, spec),
    ),
  );
}

/** @throws Failure */
export async function lookUpOne(
  log: Log,
  info: TopicInfo,
  partition: number,
  spec: OffsetSpec,
): Promise<Position> {
  const found = await log.offset(info, partition, spec);
  switch (found.kind) {
    case "offset":
      // An earliest offset has nothing before it whose epoch could be compared.
      return { offset: found.offset, epoch: spec === "latest" ? found.epoch : -1 };
    case "gone":
      throw new Failure(
        "TOPIC_GONE",
        `Kafka has no topic "${info.name}" any more under the id that the catalog names.`,
      );
    case "unauthorised":
      throw new Failure("KAFKA_REFUSED", found.reason);
    case "corrupt":
      throw new Failure("LOG_CORRUPT", found.reason);
    default:
      throw new Failure("KAFKA_UNAVAILABLE", found.reason);
  }
}
