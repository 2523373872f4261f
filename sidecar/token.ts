/**
 * Position tokens (P4): opaque to clients, honoured by every server of the deployment.
 *
 * A token is one byte format version, a TokenBody (proto/throughline/stored/v1/stored.proto) and the
 * CRC-32 of both. It grants nothing, so it is not signed: rights are checked at every open.
 *
 * Invariant: what cannot be read exactly is INVALID_TOKEN, never a replay of everything (P3).
 */
import { crc32 } from "node:zlib";
import type { Position, TopicId } from "../kafka/log.ts";
import { TokenBody } from "../proto/gen/throughline/stored/v1/stored.ts";
import { Failure } from "./failure.ts";

const FORMAT_VERSION = 1;
const CHECKSUM_BYTES = 4;
/** 5,000 partitions at their longest; no honest token is larger. */
const MAX_TOKEN_BYTES = 128 * 1024;

/** What the numbers of a token count in. */
export interface TokenIdentity {
  readonly deploymentId: string;
  /** `<namespace>/<name>`. */
  readonly topic: string;
  readonly topicId: TopicId;
}

/** A token read back. `recreated`: the topic of this name has another id now. */
export type ReadToken =
  | { readonly kind: "positions"; readonly positions: readonly Position[] }
  | {
      readonly kind: "recreated";
      readonly topicId: TopicId;
      readonly positions: readonly Position[];
    };

export function encodeToken(identity: TokenIdentity, positions: readonly Position[]): Buffer {
  const body = TokenBody.encode({
    deploymentId: identity.deploymentId,
    topic: identity.topic,
    topicId: Buffer.from(identity.topicId, "hex"),
    nextOffsets: positions.map((position) => BigInt(position.offset)),
    epochsPlusOne: positions.map((position) => position.epoch + 1),
  }).finish();
  const token = Buffer.allocUnsafe(1 + body.length + CHECKSUM_BYTES);
  token[0] = FORMAT_VERSION;
  token.set(body, 1);
  const end = 1 + body.length;
  token.writeUInt32BE(crc32(token.subarray(0, end)), end);
  return token;
}

/**
 * @param partitions how many the topic has now; partitions the token does not name start at offset 0.
 * @param what it is, for the message.
 * @throws Failure INVALID_TOKEN when it is damaged, foreign, or of an unknown version.
 */
export function decodeToken(
  token: Buffer,
  identity: TokenIdentity,
  partitions: number,
  what = "The start token",
): ReadToken {
  const invalid = (why: string): Failure =>
    new Failure("INVALID_TOKEN", `${what} cannot be used: ${why}.`);
  const body = readBody(token, invalid);
  if (body.deploymentId !== identity.deploymentId) {
    throw invalid(
      `it belongs to deployment "${body.deploymentId}", this one is "${identity.deploymentId}"`,
    );
  }
  if (body.topic !== identity.topic) {
    throw invalid(`it belongs to topic "${body.topic}", not "${identity.topic}"`);
  }
  if (body.nextOffsets.length !== body.epochsPlusOne.length) throw invalid("it is damaged");
  const positions = body.nextOffsets.map((offset, i) => {
    const next = Number(offset);
    if (!Number.isSafeInteger(next)) throw invalid("it names an impossible offset");
    return { offset: next, epoch: (body.epochsPlusOne[i] ?? 0) - 1 };
  });
  const topicId = body.topicId.toString("hex");
  if (topicId !== identity.topicId) return { kind: "recreated", topicId, positions };
  if (positions.length > partitions) {
    throw invalid(`it names ${positions.length} partitions, the topic has ${partitions}`);
  }
  while (positions.length < partitions) positions.push({ offset: 0, epoch: -1 });
  return { kind: "positions", positions };
}

function readBody(token: Buffer, invalid: (why: string) => Failure): TokenBody {
  if (token.length === 0) throw invalid("it is empty");
  if (token.length > MAX_TOKEN_BYTES) throw invalid("it is too long");
  const end = token.length - CHECKSUM_BYTES;
  if (end < 1 || crc32(token.subarray(0, end)) !== token.readUInt32BE(end)) {
    throw invalid("it is truncated or damaged (checksum)");
  }
  if (token[0] !== FORMAT_VERSION) {
    throw invalid(
      `it has format version ${token[0]}; this release reads version ${FORMAT_VERSION}`,
    );
  }
  try {
    return TokenBody.decode(token.subarray(1, end));
  } catch {
    throw invalid("it is damaged");
  }
}
