/**
 * Reads a catalog, ours or another deployment's: whole at first, then what came since.
 *
 * Beside a Topic's record there are marks, `begun <namespace>/<name> <kafkaTopic>` and
 * `abandoned <namespace>/<name>`. A mark is written before a Kafka topic is made, so that an operator
 * that dies between making and recording it knows it for its own. Marks have no value: to a server they
 * are removals of what it does not know. Compaction keeps such records for a day.
 */
import type { Log, Position, TopicInfo } from "../kafka/log.ts";
import { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import { IndexedMap } from "./indexed-map.ts";
import { readToEnd } from "./read-to-end.ts";

const FORMAT_VERSION = 1;
const BEGUN = "begun";
const ABANDONED = "abandoned";

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

  /**
   * Reads on from where it stopped to the end.
   * @throws TopicGone (who opens it anew makes it anew), or when Kafka cannot be asked, or a record cannot be read.
   */
  read(): Promise<void> {
    return readToEnd(this.#log, this.topic, this.#position, {
      take: ({ key, value }) => key && this.#take(key.toString(), value),
      moved: (to) => {
        this.#position = to;
      },
    });
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
