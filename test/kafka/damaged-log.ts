/** A log whose readers bring one batch damaged: of a message format that there is not. */
import type { Fetched, Log, PartitionReader } from "../../kafka/log.ts";

/** @returns heals it. */
export function damageBatchAt(log: Log, base: number): () => void {
  let damaged = true;
  const openReader = log.openReader.bind(log);
  log.openReader = (...of) => {
    const reader = openReader(...of);
    const fetch: PartitionReader["fetch"] = async (...asked) => {
      const outcome = await reader.fetch(...asked);
      return damaged && outcome.kind === "fetched" ? damagedAt(base, outcome) : outcome;
    };
    return { fetch, close: () => reader.close() };
  };
  return () => {
    damaged = false;
  };
}

function damagedAt(base: number, fetched: Fetched): Fetched {
  const records = Buffer.from(fetched.records);
  for (let at = 0; at < records.length; at += 12 + records.readInt32BE(at + 8)) {
    if (records.readBigInt64BE(at) === BigInt(base)) records[at + 16] = 3;
  }
  return { ...fetched, records };
}
