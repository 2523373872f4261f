/**
 * Reads a catalog, ours or another deployment's: whole at first, then what came since.
 *
 * Beside a Topic's record there are marks. `begun <namespace>/<name> <kafkaTopic>` and `abandoned <namespace>/<name>`:
 * the first is written before a Kafka topic is made, so that an operator that dies between making and recording it knows
 * it for its own. `opened`: an operator has begun to write here. Marks have no value: to a server they are removals of
 * what it does not know, and so is `opened` here. Compaction keeps such records for a day.
 */
import type { Log, Position, TopicInfo } from "../kafka/log.ts";
import { recordsOf } from "../kafka/records.ts";
import { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import { IndexedMap } from "./indexed-map.ts";
import { failed } from "./kafka-outcome.ts";

const FORMAT_VERSION = 1;
const FETCH_BYTES = 1 << 20;
export const OPENED = "opened";
const BEGUN = "begun";
const ABANDONED = "abandoned";

/** Somebody deleted its Kafka topic. Who opens it anew makes it anew. */
export class CatalogGone extends Error {}

export class CatalogReader {
  readonly topic: TopicInfo;
  /** By `<namespace>/<name>`, and by Kafka topic. */
  readonly records = new IndexedMap<CatalogRecord>(({ kafkaTopic }) => kafkaTopic);
  /** Kafka topics that were about to be made for a Topic and are not recorded, by Topic. */
  readonly begun = new Map<string, string>();
  readonly #log: Log;
  #position: Position = { offset: 0, epoch: -1 };

  constructor(log: Log, topic: TopicInfo) {
    this.#log = log;
    this.topic = topic;
  }

  /** Reads on from where it stopped to the end. @throws when Kafka cannot be asked, or a record cannot be read. */
  async read(): Promise<void> {
    const end = await this.#log.offset(this.topic, 0, "latest");
    if (end.kind === "gone") throw new CatalogGone(`the catalog ${this.topic.name} is gone`);
    if (end.kind !== "offset") throw failed(end);
    if (this.#position.offset >= end.offset) return;
    const reader = this.#log.openReader(this.topic, 0);
    try {
      while (this.#position.offset < end.offset) {
        const fetched = await reader.fetch(this.#position, FETCH_BYTES, 500);
        if (fetched.kind === "loss") {
          if (fetched.loss.kind !== "before-earliest")
            throw new Error(`the catalog ${this.topic.name}: ${fetched.loss.kind}`);
          this.#position = { offset: fetched.loss.earliest, epoch: -1 };
          continue;
        }
        if (fetched.kind !== "fetched") throw failed(fetched);
        const { records, next, epoch, damage } = recordsOf(fetched, this.#position.offset);
        if (damage) throw new Error(`the catalog ${this.topic.name}: ${damage}`);
        for (const { key, value } of records) if (key) this.#take(key.toString(), value);
        this.#position = { offset: next, epoch: epoch >= 0 ? epoch : this.#position.epoch };
      }
    } finally {
      reader.close();
    }
  }

  #take(key: string, value: Buffer | null): void {
    const [mark, name = "", kafkaTopic] = key.split(" ");
    if (mark === BEGUN && kafkaTopic) this.begun.set(name, kafkaTopic);
    else if (mark === ABANDONED) this.begun.delete(name);
    else {
      this.begun.delete(key);
      if (value === null) this.records.delete(key);
      else this.records.set(key, decode(key, value, this.topic.name));
    }
  }
}

export function begunKey(name: string, kafkaTopic: string): string {
  return `${BEGUN} ${name} ${kafkaTopic}`;
}

export function abandonedKey(name: string): string {
  return `${ABANDONED} ${name}`;
}

/** A record that is skipped would make its Topic look new: better to stop. */
function decode(key: string, value: Buffer, topic: string): CatalogRecord {
  let record: CatalogRecord | undefined;
  try {
    record = CatalogRecord.decode(value);
  } catch {
    // Said below.
  }
  if (record?.formatVersion === FORMAT_VERSION) return record;
  throw new Error(
    record && record.formatVersion > FORMAT_VERSION
      ? `the catalog ${topic} was written by a newer release (format ${record.formatVersion} of "${key}"); run that one`
      : `the catalog ${topic} has a damaged record "${key}"; write it anew or remove it with Kafka's own tools`,
  );
}
