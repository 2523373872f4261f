/**
 * The catalog of a deployment: a compacted topic of one partition, read whole at start, written through
 * a fenced writer so that an older operator that thaws cannot write (DESIGN: Parts and shapes). How it is
 * read, and the marks in it: `catalog-reader.ts`.
 */
import type { FencedWriter, Log, NewRecord, TopicInfo } from "../kafka/log.ts";
import { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";
import { abandonedKey, begunKey, CatalogReader, OPENED } from "./catalog-reader.ts";
import type { IndexedMap } from "./indexed-map.ts";
import { done, failed, Refused } from "./kafka-outcome.ts";

/** A newer operator of the same deployment writes now: this one must end. */
export class Superseded extends Error {}

export class CatalogWriter {
  readonly deploymentId: string;
  readonly #read: CatalogReader;
  readonly #log: Log;
  readonly #now: () => number;
  #writer: FencedWriter | undefined;
  /** Topics of which nobody knows whether the last write is in the log: the next one is written in any case. */
  readonly #doubtful = new Set<string>();
  readonly #changing = new Set<Promise<void>>();
  #rereading: Promise<void> = Promise.resolve();

  private constructor(read: CatalogReader, deploymentId: string, log: Log, now: () => number) {
    this.#read = read;
    this.deploymentId = deploymentId;
    this.#log = log;
    this.#now = now;
  }

  /** By `<namespace>/<name>`, and by Kafka topic. */
  get records(): IndexedMap<CatalogRecord> {
    return this.#read.records;
  }

  /** Kafka topics that were about to be made for a Topic and are not recorded, by Topic. */
  get begun(): ReadonlyMap<string, string> {
    return this.#read.begun;
  }

  /**
   * Fences older writers, then reads what they left. Without a cluster uid any cluster's is taken.
   * @throws when Kafka cannot be asked, or when the catalog is another cluster's or a newer release's.
   */
  static async open(
    log: Log,
    deploymentId: string,
    now: () => number,
    clusterUid?: string,
  ): Promise<CatalogWriter> {
    const topic = await ensureTopic(log, catalogTopicOf(deploymentId));
    const read = new CatalogReader(log, topic);
    const catalog = new CatalogWriter(read, deploymentId, log, now);
    await read.read();
    // Before the fence: who is refused here must not have stopped the rightful operator.
    if (clusterUid !== undefined) catalog.#refuseOthers(clusterUid);
    catalog.#writer = done(await log.openFencedWriter(topic, catalog.#stamped(OPENED, null)));
    try {
      await read.read();
      return catalog;
    } catch (error) {
      catalog.close();
      throw error;
    }
  }

  /** The same clock that stamps what is written. Milliseconds since 1970. */
  now(): number {
    return this.#now();
  }

  /** @throws when Kafka did not take it; so do the other changes. */
  put(name: string, record: CatalogRecord): Promise<void> {
    return this.#change(async () => {
      const value = Buffer.from(CatalogRecord.encode(record).finish());
      const known = this.records.get(name);
      const isKnown = known && value.equals(CatalogRecord.encode(known).finish());
      if (isKnown && !this.#doubtful.has(name)) return;
      await this.#write(name, name, value);
      this.records.set(name, record);
      this.#read.begun.delete(name);
    });
  }

  remove(name: string): Promise<void> {
    return this.#change(async () => {
      if (!this.records.has(name) && !this.#doubtful.has(name)) return;
      await this.#write(name, name, null);
      this.records.delete(name);
      this.#read.begun.delete(name);
    });
  }

  /** A Kafka topic that does not exist is about to be made for this Topic. */
  begin(name: string, kafkaTopic: string): Promise<void> {
    return this.#change(async () => {
      if (this.begun.get(name) === kafkaTopic && !this.#doubtful.has(name)) return;
      await this.#write(name, begunKey(name, kafkaTopic), null);
      this.#read.begun.set(name, kafkaTopic);
    });
  }

  /** It was not made, or somebody else was first, or it is gone again. */
  abandon(name: string): Promise<void> {
    return this.#change(async () => {
      if (!this.begun.has(name) && !this.#doubtful.has(name)) return;
      await this.#write(name, abandonedKey(name), null);
      this.#read.begun.delete(name);
    });
  }

  /**
   * Sees what somebody else wrote or took away: the next reconcile of each Topic puts it right. No change runs
   * meanwhile, so that nothing older than a change of ours is seen as the last.
   * @throws CatalogGone, or when it cannot be read.
   */
  reread(): Promise<void> {
    const read = Promise.allSettled([...this.#changing]).then(() => this.#read.read());
    this.#rereading = read.catch(() => {});
    return read;
  }

  /** The deployment is no more: its catalog goes too. Nobody can write after this. */
  async delete(): Promise<void> {
    done(await this.#log.admin.deleteTopic(this.#read.topic.id));
  }

  close(): void {
    this.#writer?.close();
  }

  #change(make: () => Promise<void>): Promise<void> {
    const changed = this.#rereading.then(make);
    this.#changing.add(changed);
    const end = (): void => void this.#changing.delete(changed);
    changed.then(end, end);
    return changed;
  }

  async #write(name: string, key: string, value: Buffer | null): Promise<void> {
    const topic = this.#read.topic.name;
    if (!this.#writer) throw new Error("the catalog is not open");
    const wasDoubtful = this.#doubtful.has(name);
    this.#doubtful.add(name);
    const written = await this.#writer.write(this.#stamped(key, value));
    switch (written.kind) {
      case "appended":
        break;
      case "fenced":
        throw new Superseded(
          `another operator writes ${topic} now; end this one, or the other and start this one anew`,
        );
      case "gone":
        throw new Refused("KafkaUnavailable", `the catalog ${topic} is gone`);
      case "too-large":
        throw new Refused("MESSAGE_TOO_LARGE", written.reason);
      case "unknown":
        throw new Refused("KafkaUnavailable", written.reason);
      default:
        throw failed(written);
    }
    // A record says all; a mark says nothing of a record that may be there.
    if (key === name || !wasDoubtful) this.#doubtful.delete(name);
  }

  #stamped(key: string, value: Buffer | null): NewRecord {
    return { key: Buffer.from(key), value, headers: [], timeMs: this.#now() };
  }

  #refuseOthers(clusterUid: string): void {
    for (const [key, record] of this.records) {
      if (record.clusterUid === clusterUid) continue;
      throw new Error(
        `the catalog ${this.#read.topic.name} belongs to "${record.clusterUid}" (Topic ${key}), this is "${clusterUid}"; use a deployment id of your own, or delete that topic when its owner is no more`,
      );
    }
  }
}

export function catalogTopicOf(deploymentId: string): string {
  return `_throughline.${deploymentId}.catalog`;
}

async function ensureTopic(log: Log, name: string): Promise<TopicInfo> {
  const settings = { "cleanup.policy": "compact" };
  for (let made = false; ; made = true) {
    const known = done(await log.admin.describeTopics([name])).get(name);
    if (known) return await checked(log, known);
    const created = await log.admin.createTopic({ name, partitions: 1, replicas: -1, settings });
    if (created.kind === "done") return created.value;
    // Another operator that starts now may be first, once.
    const first = created.kind === "refused" && created.error === "TOPIC_ALREADY_EXISTS";
    if (made || !first) done(created);
  }
}

/** One that was made by a broker's auto-creation would forget its Topics after a week. */
async function checked(log: Log, topic: TopicInfo): Promise<TopicInfo> {
  if (topic.partitions !== 1) {
    throw new Error(
      `the catalog ${topic.name} has ${topic.partitions} partitions and must have one; delete it if it is not in use`,
    );
  }
  const settings = done(await log.admin.settings(topic.name));
  if (settings["cleanup.policy"] === "compact") return topic;
  done(await log.admin.changeSettings(topic.name, { "cleanup.policy": "compact" }, []));
  return topic;
}
