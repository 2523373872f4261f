/** Fetched batches as records: for small topics read whole, like the catalog. Not for the hot path. */
import type { Fetched, KeyedRecord } from "./log.ts";
import { scan } from "./scan.ts";

export interface Records {
  readonly records: readonly KeyedRecord[];
  readonly next: number;
  readonly epoch: number;
  /** What is wrong with the batch at `next`; undefined when all could be read. */
  readonly damage: string | undefined;
}

export function recordsOf(fetched: Pick<Fetched, "records" | "aborted">, from: number): Records {
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
  const { next, epoch } = end;
  return end.kind === "corrupt"
    ? { records: found.filter(({ offset }) => offset < next), next, epoch, damage: end.reason }
    : { records: found, next, epoch, damage: undefined };
}
