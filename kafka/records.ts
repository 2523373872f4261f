/** Fetched batches as records: for small topics read whole, like the catalog. Not for the hot path. */
import type { Fetched, KeyedRecord } from "./log.ts";
import { scan } from "./scan.ts";

/** @throws when the bytes are corrupt. */
export function recordsOf(
  fetched: Pick<Fetched, "records" | "aborted">,
  from: number,
): { records: KeyedRecord[]; next: number; epoch: number } {
  const found: KeyedRecord[] = [];
  const end = scan(fetched.records, { from, aborted: fetched.aborted }, (cursor) => {
    const { buf, keyStart, keyLength, valueStart, valueLength } = cursor;
    found.push({
      key: keyLength < 0 ? null : Buffer.from(buf.subarray(keyStart, keyStart + keyLength)),
      value:
        valueLength < 0 ? null : Buffer.from(buf.subarray(valueStart, valueStart + valueLength)),
      offset: cursor.offset,
    });
  });
  if (end.kind === "corrupt") throw new Error(end.reason);
  return { records: found, next: end.next, epoch: end.epoch };
}
