/**
 * A small compacted topic of one partition, read whole and on: the catalog, and the sequencers' progress.
 * A record that cannot be read is an error, never "no record".
 */
import type { KeyedRecord, Log, Position, TopicInfo } from "../kafka/log.ts";
import { recordsOf } from "../kafka/records.ts";

const FETCH_BYTES = 1 << 20;
const FETCH_WAIT_MS = 500;
/** An open transaction of another holds a read back for its own time, 10 s, at most. */
const READ_WITHIN_MS = 15_000;

export class CompactedTopic {
  readonly info: TopicInfo;
  readonly #log: Log;
  #position: Position = { offset: 0, epoch: -1 };

  constructor(log: Log, info: TopicInfo) {
    this.#log = log;
    this.info = info;
  }

  /** Reads on, to the end as it is now. @throws when Kafka cannot be asked, or the topic is gone or damaged. */
  async read(take: (record: KeyedRecord) => void): Promise<void> {
    const end = await this.#log.offset(this.info, 0, "latest");
    if (end.kind === "gone") throw new Error(`Kafka topic ${this.info.name} was deleted`);
    if (end.kind !== "offset") throw new Error(end.reason);
    await this.readTo(end.offset, take);
  }

  /** Reads on, up to an offset. @throws as `read`. */
  async readTo(end: number, take: (record: KeyedRecord) => void): Promise<void> {
    if (this.#position.offset >= end) return;
    const until = performance.now() + READ_WITHIN_MS;
    const reader = this.#log.openReader(this.info, 0);
    try {
      while (this.#position.offset < end) {
        const fetched = await reader.fetch(this.#position, FETCH_BYTES, FETCH_WAIT_MS);
        if (fetched.kind === "loss") {
          if (fetched.loss.kind !== "before-earliest")
            throw new Error(`Kafka topic ${this.info.name}: ${fetched.loss.kind}`);
          this.#position = { offset: fetched.loss.earliest, epoch: -1 };
          continue;
        }
        if (fetched.kind !== "fetched") throw new Error(fetched.reason);
        const { records, next, epoch, damage } = recordsOf(fetched, this.#position.offset);
        if (damage) throw new Error(`Kafka topic ${this.info.name}: ${damage}`);
        for (const record of records) take(record);
        this.#position = { offset: next, epoch: epoch >= 0 ? epoch : this.#position.epoch };
        if (performance.now() > until)
          throw new Error(`${this.info.name} could not be read within ${READ_WITHIN_MS} ms`);
      }
    } finally {
      reader.close();
    }
  }
}
