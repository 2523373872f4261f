/**
 * The catalog of a deployment: a compacted topic of one partition, read whole at start, written through
 * a fenced writer so that an older operator that thaws cannot write (DESIGN: Parts and shapes).
 *
 * Beside a Topic's record there are marks, `begun <namespace>/<name> <kafkaTopic>` and
 * `abandoned <namespace>/<name>`. A mark is written before a Kafka topic is made, so that an operator
 * that dies between making and recording it knows it for its own. Marks have no value: to a server they
 * are removals of what it does not know. Compaction keeps such records for a day.
 */
import type { FencedWriter, Log, LogFailure, Position, TopicInfo } from "../kafka/log.ts";
import { recordsOf } from "../kafka/records.ts";
import { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";

const FORMAT_VERSION = 1;
const FETCH_BYTES = 1 << 20;
const BEGUN = "begun";
const ABANDONED = "abandoned";

/** A newer operator of the same deployment writes now: this one must end. */
export class Superseded extends Error {}

export class CatalogWriter {
  readonly records = new Map<string, CatalogRecord>();
  /** Kafka topics that were about to be made for a Topic and are not recorded, by Topic. */
  readonly begun = new Map<string, string>();
  readonly #topic: TopicInfo;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #alone: boolean;
  #writer: FencedWriter | undefined;
  #position: Position = { offset: 0, epoch: -1 };

  private constructor(topic: TopicInfo, log: Log, now: () => number, alone: boolean) {
    this.#topic = topic;
    this.#log = log;
    this.#now = now;
    this.#alone = alone;
  }

  /**
   * Fences older writers, then reads what they left. Without a cluster uid any cluster's is taken.
   * `alone`: nobody else can be writing (a lock says so), and a fence is Kafka's own, of a transaction
   * that outlived its time while the broker was away; the writer is opened anew then.
   * @throws when Kafka cannot be asked, or when the catalog is another cluster's or a newer release's.
   */
  static async open(
    log: Log,
    deploymentId: string,
    now: () => number,
    { clusterUid, alone = false }: { clusterUid?: string; alone?: boolean } = {},
  ): Promise<CatalogWriter> {
    const name = `_throughline.${deploymentId}.catalog`;
    const topic = await ensureTopic(log, name);
    const catalog = new CatalogWriter(topic, log, now, alone);
    await catalog.#read();
    // Before the fence: who is refused here must not have stopped the rightful operator.
    if (clusterUid !== undefined) catalog.#refuseOthers(clusterUid);
    await catalog.#openWriter();
    await catalog.#read();
    return catalog;
  }

  /** @throws when Kafka did not take it. */
  async put(name: string, record: CatalogRecord): Promise<void> {
    const value = Buffer.from(CatalogRecord.encode(record).finish());
    const known = this.records.get(name);
    if (known && value.equals(CatalogRecord.encode(known).finish())) return;
    await this.#write(name, value);
    this.records.set(name, record);
    this.begun.delete(name);
  }

  async remove(name: string): Promise<void> {
    if (!this.records.has(name)) return;
    await this.#write(name, null);
    this.records.delete(name);
    this.begun.delete(name);
  }

  /** A Kafka topic that does not exist is about to be made for this Topic. */
  async begin(name: string, kafkaTopic: string): Promise<void> {
    if (this.begun.get(name) === kafkaTopic) return;
    await this.#write(`${BEGUN} ${name} ${kafkaTopic}`, null);
    this.begun.set(name, kafkaTopic);
  }

  /** It was not made, or somebody else was first. */
  async abandon(name: string): Promise<void> {
    if (!this.begun.has(name)) return;
    await this.#write(`${ABANDONED} ${name}`, null);
    this.begun.delete(name);
  }

  /** The deployment is no more: its catalog goes too. Nobody can write after this. */
  async delete(): Promise<void> {
    const deleted = await this.#log.admin.deleteTopic(this.#topic.id);
    if (deleted.kind !== "done") throw new Error(deleted.reason);
  }

  async close(): Promise<void> {
    await this.#writer?.close();
  }

  async #write(key: string, value: Buffer | null): Promise<void> {
    const record = { key: Buffer.from(key), value, headers: [], timeMs: this.#now() };
    if (!this.#writer) throw new Error("the catalog is not open");
    let written = await this.#writer.write(this.#topic.name, [record]);
    if (written.kind === "fenced" && this.#alone) {
      const writer = await this.#openWriter();
      written = await writer.write(this.#topic.name, [record]);
    }
    if (written.kind === "fenced") {
      throw new Superseded(
        `another operator writes ${this.#topic.name} now; end this one, or the other and start this one anew`,
      );
    }
    if (written.kind !== "done") throw new Error(written.reason);
  }

  async #openWriter(): Promise<FencedWriter> {
    const opened = await this.#log.openFencedWriter(this.#topic.name);
    if (opened.kind !== "done") throw new Error(opened.reason);
    this.#writer = opened.value;
    return opened.value;
  }

  /** Reads on from where it stopped to the end. */
  async #read(): Promise<void> {
    const end = await this.#log.offset(this.#topic, 0, "latest");
    if (end.kind !== "offset")
      throw new Error(end.kind === "gone" ? "the catalog is gone" : end.reason);
    const reader = this.#log.openReader(this.#topic, 0);
    try {
      while (this.#position.offset < end.offset) {
        const fetched = await reader.fetch(this.#position, FETCH_BYTES, 500);
        if (fetched.kind === "loss") {
          if (fetched.loss.kind !== "before-earliest")
            throw new Error(`the catalog: ${fetched.loss.kind}`);
          this.#position = { offset: fetched.loss.earliest, epoch: -1 };
          continue;
        }
        if (fetched.kind !== "fetched") throw new Error((fetched satisfies LogFailure).reason);
        const { records, next, epoch, damage } = recordsOf(fetched, this.#position.offset);
        if (damage) throw new Error(`the catalog: ${damage}`);
        for (const { key, value } of records) if (key) this.#take(key.toString(), value);
        this.#position = { offset: next, epoch: epoch >= 0 ? epoch : this.#position.epoch };
      }
    } finally {
      reader.close();
    }
  }

  #refuseOthers(clusterUid: string): void {
    for (const [key, record] of this.records) {
      if (record.clusterUid === clusterUid) continue;
      throw new Error(
        `the catalog ${this.#topic.name} belongs to "${record.clusterUid}" (Topic ${key}), this is "${clusterUid}"; use a deployment id of your own, or delete that topic when its owner is no more`,
      );
    }
  }

  #take(key: string, value: Buffer | null): void {
    const [mark, name = "", kafkaTopic] = key.split(" ");
    if (mark === BEGUN && kafkaTopic) this.begun.set(name, kafkaTopic);
    else if (mark === ABANDONED) this.begun.delete(name);
    else {
      this.begun.delete(key);
      if (value === null) this.records.delete(key);
      else this.records.set(key, decode(key, value, this.#topic.name));
    }
  }
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

async function ensureTopic(log: Log, name: string): Promise<TopicInfo> {
  const settings = { "cleanup.policy": "compact" };
  for (let made = false; ; made = true) {
    const found = await log.admin.describeTopics([name]);
    if (found.kind !== "done") throw new Error(found.reason);
    const known = found.value.get(name);
    if (known) return await checked(log, known);
    const created = await log.admin.createTopic({ name, partitions: 1, replicas: -1, settings });
    if (created.kind === "done") return created.value;
    // Another operator that starts now may be first, once.
    const first = created.kind === "refused" && created.error === "TOPIC_ALREADY_EXISTS";
    if (made || !first) throw new Error(created.reason);
  }
}

/** One that was made by a broker's auto-creation would forget its Topics after a week. */
async function checked(log: Log, topic: TopicInfo): Promise<TopicInfo> {
  if (topic.partitions !== 1) {
    throw new Error(
      `the catalog ${topic.name} has ${topic.partitions} partitions and must have one; delete it if it is not in use`,
    );
  }
  const settings = await log.admin.settings(topic.name);
  if (settings.kind !== "done") throw new Error(settings.reason);
  if (settings.value["cleanup.policy"] === "compact") return topic;
  const changed = await log.admin.changeSettings(topic.name, { "cleanup.policy": "compact" }, []);
  if (changed.kind !== "done") throw new Error(changed.reason);
  return topic;
}
