/** The compressions of record batches; snappy and lz4 by the Kafka client's codecs, gzip and zstd by Node. */
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { compressionsAlgorithms } from "@platformatic/kafka";

/** @throws when the bytes are not what the codec says, or the codec is unknown. */
export function decompress(codec: number, bytes: Buffer): Buffer {
  switch (codec) {
    case 1:
      return gunzipSync(bytes);
    case 2:
      return compressionsAlgorithms.snappy.decompressSync(bytes);
    case 3:
      return compressionsAlgorithms.lz4.decompressSync(bytes);
    case 4:
      return zstdDecompressSync(bytes);
    default:
      throw new Error(`codec ${codec} is unknown`);
  }
}
