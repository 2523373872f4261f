/**
 * What a token says (pure). Tokens are opaque to clients; the judge may look, without the product's own
 * checks of deployment and topic.
 */
import { crc32 } from "node:zlib";
import { TokenBody } from "../../../proto/gen/throughline/stored/v1/stored.ts";

export interface Positions {
  readonly topicId: string;
  readonly topic: string;
  /** By partition; those past the end start at 0. */
  readonly next: readonly number[];
}

const VERSION_BYTES = 1;
const CHECKSUM_BYTES = 4;

/** @returns undefined for an empty one, and for one that was damaged on purpose. */
export function positionsOf(token: string | undefined): Positions | undefined {
  if (!token) return undefined;
  const bytes = Buffer.from(token, "base64");
  const end = bytes.length - CHECKSUM_BYTES;
  if (end < VERSION_BYTES || crc32(bytes.subarray(0, end)) !== bytes.readUInt32BE(end))
    return undefined;
  const body = TokenBody.decode(bytes.subarray(VERSION_BYTES, end));
  return {
    topicId: body.topicId.toString("hex"),
    topic: body.topic,
    next: body.nextOffsets.map(Number),
  };
}

export function nextIn(positions: Positions, partition: number): number {
  return positions.next[partition] ?? 0;
}
