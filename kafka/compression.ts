/** The compressions of record batches: gzip and zstd by Node, Snappy and LZ4 in lz-decoders.ts. */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { lz4Decoded, snappyDecoded } from "./lz-decoders.ts";

/**
 * What one batch may become (P6). Producers fill batches of 16 KiB to a few MiB; a batch that is small
 * on the wire and gigabytes in memory is damaged or hostile.
 */
const MAX_BATCH_BYTES = 64 << 20;

/** @throws when the bytes are not what the codec says, become too many, or the codec is unknown. */
export function decompress(codec: number, bytes: Buffer): Buffer {
  switch (codec) {
    case 1:
      return gunzipSync(bytes, { maxOutputLength: MAX_BATCH_BYTES });
    case 2:
      return snappyDecoded(bytes, MAX_BATCH_BYTES);
    case 3:
      return lz4Decoded(bytes, MAX_BATCH_BYTES);
    case 4:
      return zstdDecompressSync(bytes, { maxOutputLength: MAX_BATCH_BYTES });
    default:
      throw new Error(`codec ${codec} is unknown`);
  }
}
