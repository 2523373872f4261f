/**
 * Snappy and LZ4 frames, decoding only. Both are copies from what was already written, so they share
 * their two loops.
 *
 * Why not the Kafka client's own: those run in WebAssembly, whose memory never shrinks. Each damaged batch
 * traps there and leaks its buffers, until every later call of the process fails; and four damaged bytes of
 * length in a Snappy batch take gigabytes. Here the output is bounded (P6), and malformed bytes are an
 * exception that leaves nothing behind. They are half as fast, and as fast as gzip.
 *
 * Checksums inside LZ4 frames are not verified: the record batch around them has its own.
 *
 * Formats: https://github.com/google/snappy/blob/main/format_description.txt and
 * https://github.com/lz4/lz4/tree/dev/doc (block, frame). Snappy comes raw or in the chunks of snappy-java.
 */

const XERIAL = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0x00]);
/** Magic, version and oldest compatible version. */
const XERIAL_HEADER_BYTES = 16;
const LZ4_MAGIC = 0x184d2204;
/** By the three bits of the block descriptor; 0 to 3 are not defined. */
const LZ4_BLOCK_BYTES = [0, 0, 0, 0, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
const LZ4_STORED = 0x80000000;
/** Shorter copies are faster by a loop. */
const LOOP_BELOW = 32;

/** @throws when the bytes are not Snappy, or would become more than `maxBytes`. */
export function snappyDecoded(bytes: Buffer, maxBytes: number): Buffer {
  if (!bytes.subarray(0, XERIAL.length).equals(XERIAL)) {
    return snappyBlock(bytes, 0, bytes.length, 0, maxBytes);
  }
  const chunks: Buffer[] = [];
  let total = 0;
  for (let at = XERIAL_HEADER_BYTES; at < bytes.length; ) {
    const end = at + 4 + bytes.readUInt32BE(at);
    if (end > bytes.length) throw new Error("a chunk is cut off");
    const chunk = snappyBlock(bytes, at + 4, end, total, maxBytes);
    chunks.push(chunk);
    total += chunk.length;
    at = end;
  }
  return chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks, total);
}

function snappyBlock(
  bytes: Buffer,
  start: number,
  end: number,
  already: number,
  maxBytes: number,
): Buffer {
  let at = start;
  let size = 0;
  for (let scale = 1; ; scale *= 128) {
    if (at >= end || scale > 2 ** 28) throw new Error("its length does not end");
    const byte = bytes[at++] as number;
    size += (byte & 127) * scale;
    if (byte < 128) break;
  }
  if (already + size > maxBytes) throw tooLarge(maxBytes);
  const out = Buffer.allocUnsafe(size);
  let to = 0;
  while (at < end) {
    const tag = bytes[at++] as number;
    if ((tag & 3) === 0) {
      let length = tag >>> 2;
      if (length >= 60) {
        const wide = length - 59;
        if (at + wide > end) throw cutOff();
        length = bytes.readUIntLE(at, wide);
        at += wide;
      }
      length++;
      if (length > end - at) throw cutOff();
      if (length > size - to) throw overlong();
      copyLiterals(bytes, at, out, to, length);
      at += length;
      to += length;
      continue;
    }
    let length = (tag >>> 2) + 1;
    let distance: number;
    if ((tag & 3) === 1) {
      if (at + 1 > end) throw cutOff();
      length = ((tag >>> 2) & 7) + 4;
      distance = ((tag >>> 5) << 8) | (bytes[at++] as number);
    } else {
      const wide = (tag & 3) === 2 ? 2 : 4;
      if (at + wide > end) throw cutOff();
      distance = bytes.readUIntLE(at, wide);
      at += wide;
    }
    if (length > size - to) throw overlong();
    copyBack(out, to, distance, length);
    to += length;
  }
  if (to !== size) throw new Error(`it has ${to} bytes, not the ${size} that it says`);
  return out;
}

/** One frame, as Kafka's producers write them. @throws as above. */
export function lz4Decoded(bytes: Buffer, maxBytes: number): Buffer {
  if (bytes.length < 7 || bytes.readUInt32LE(0) !== LZ4_MAGIC)
    throw new Error("it is no LZ4 frame");
  const flags = bytes[4] as number;
  const blockBytes = LZ4_BLOCK_BYTES[((bytes[5] as number) >>> 4) & 7] as number;
  if (flags >>> 6 !== 1 || blockBytes === 0) throw new Error("its LZ4 frame is of an unknown kind");
  // A dictionary would have to be agreed beforehand; Kafka knows none.
  if (flags & 1) throw new Error("its LZ4 frame needs a dictionary");
  const blockChecksum = flags & 16 ? 4 : 0;
  let at = flags & 8 ? 15 : 7;
  let out = Buffer.allocUnsafe(Math.min(maxBytes, bytes.length * 4));
  let to = 0;
  for (;;) {
    if (at + 4 > bytes.length) throw cutOff();
    const word = bytes.readUInt32LE(at);
    if (word === 0) return out.subarray(0, to);
    const size = word & ~LZ4_STORED;
    const end = at + 4 + size;
    if (size > blockBytes || end + blockChecksum > bytes.length) throw cutOff();
    // A block becomes at most 255 times as long, and never longer than the frame allows.
    const room = to + (word >= LZ4_STORED ? size : Math.min(blockBytes, size * 255));
    if (out.length < room) {
      const grown = Buffer.allocUnsafe(Math.max(room, Math.min(out.length * 2, maxBytes)));
      out.copy(grown, 0, 0, to);
      out = grown;
    }
    if (word >= LZ4_STORED) to += bytes.copy(out, to, at + 4, end);
    else to = lz4Block(bytes, at + 4, end, out, to, room);
    if (to > maxBytes) throw tooLarge(maxBytes);
    at = end + blockChecksum;
  }
}

function lz4Block(
  bytes: Buffer,
  start: number,
  end: number,
  out: Buffer,
  from: number,
  room: number,
): number {
  let at = start;
  let to = from;
  for (;;) {
    if (at >= end) throw cutOff();
    const token = bytes[at++] as number;
    let length = token >>> 4;
    if (length === 15) {
      let byte = 255;
      while (byte === 255) {
        if (at >= end) throw cutOff();
        byte = bytes[at++] as number;
        length += byte;
      }
    }
    if (length > end - at) throw cutOff();
    if (length > room - to) throw overlong();
    copyLiterals(bytes, at, out, to, length);
    at += length;
    to += length;
    // A block ends with literals.
    if (at === end) return to;
    if (at + 2 > end) throw cutOff();
    const distance = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    at += 2;
    length = (token & 15) + 4;
    if (length === 19) {
      let byte = 255;
      while (byte === 255) {
        if (at >= end) throw cutOff();
        byte = bytes[at++] as number;
        length += byte;
      }
    }
    if (length > room - to) throw overlong();
    copyBack(out, to, distance, length);
    to += length;
  }
}

function copyLiterals(bytes: Buffer, at: number, out: Buffer, to: number, length: number): void {
  if (length < LOOP_BELOW) {
    for (let i = 0; i < length; i++) out[to + i] = bytes[at + i] as number;
  } else bytes.copy(out, to, at, at + length);
}

/** Copies what was written `distance` before; where the two overlap, it repeats. */
function copyBack(out: Buffer, to: number, distance: number, length: number): void {
  if (distance === 0 || distance > to) throw new Error("it copies from before its start");
  if (length < LOOP_BELOW) {
    for (let i = to; i < to + length; i++) out[i] = out[i - distance] as number;
    return;
  }
  // Each copy doubles the run that may be copied.
  const from = to - distance;
  for (let done = 0; done < length; ) {
    const some = Math.min(distance + done, length - done);
    out.copyWithin(to + done, from, from + some);
    done += some;
  }
}

function cutOff(): Error {
  return new Error("it is cut off");
}

function overlong(): Error {
  return new Error("it is longer than it says");
}

function tooLarge(maxBytes: number): Error {
  return new Error(`it would become more than ${maxBytes} bytes`);
}
