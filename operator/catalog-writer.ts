/**
 * The catalog of a deployment: a compacted topic of one partition, read whole at start, written through
 * a fenced writer so that an older operator that thaws cannot write (DESIGN: Parts and shapes).
 */
import type { FencedWriter, Log, LogFailure, Position, TopicInfo } from "../kafka/log.ts";
import { recordsOf } from "../kafka/records.ts";
import { CatalogRecord } from "../proto/gen/throughline/stored/v1/stored.ts";

const FETCH_BYTES = 1 << 20;

export class CatalogWriter {
  readonly records = new Map<string, CatalogRecord>();
  readonly #topic: string;
  readonly #writer: FencedWriter;
  readonly #now: () => number;

  private constructor(topic: string, writer: FencedWriter, now: () => number) {
    this.#topic = topic;
    this.#writer = writer;
    this.#now = now;
  }

  /** Fences older writers first, then reads what they left. @throws when Kafka cannot be asked. */
  static async open(log: Log, deploymentId: string, now: () => number): Promise<CatalogWriter> {
    const name = `_throughline.${deploymentId}.catalog`;
    const topic = await ensureTopic(log, name);
    const opened = await log.openFencedWriter(name);
    if (opened.kind !== "done") throw new Error(opened.reason);
    const catalog = new CatalogWriter(name, opened.value, now);
    await catalog.#read(log, topic);
    return catalog;
  }

  /** @throws when Kafka did not take it. */
  async put(name: string, record: CatalogRecord): Promise<void> {
    const value = Buffer.from(CatalogRecord.encode(record).finish());
    const known = this.records.get(name);
    if (known && value.equals(CatalogRecord.encode(known).finish())) return;
    await this.#write(name, value);
    this.records.set(name, record);
  }

  async remove(name: string): Promise<void> {
    if (!this.records.has(name)) return;
    await this.#write(name, null);
    this.records.delete(name);
  }

  close(): Promise<void> {
    return this.#writer.close();
  }

  async #write(name: string, value: Buffer | null): Promise<void> {
    const record = { key: Buffer.from(name), value, headers: [], timeMs: this.#now() };
    const written = await this.#writer.write(this.#topic, [record]);
    if (written.kind === "fenced") throw new Error("another operator of this deployment took over");
    if (written.kind !== "done") throw new Error(written.reason);
  }

  async #read(log: Log, topic: TopicInfo): Promise<void> {
    const end = await log.offset(topic, 0, "latest");
    if (end.kind !== "offset")
      throw new Error(end.kind === "gone" ? "the catalog is gone" : end.reason);
    const reader = log.openReader(topic, 0);
    try {
      let position: Position = { offset: 0, epoch: -1 };
      while (position.offset < end.offset) {
        const fetched = await reader.fetch(position, FETCH_BYTES, 500);
        if (fetched.kind === "loss") {
          if (fetched.loss.kind !== "before-earliest")
            throw new Error(`the catalog: ${fetched.loss.kind}`);
          position = { offset: fetched.loss.earliest, epoch: -1 };
          continue;
        }
        if (fetched.kind !== "fetched") throw new Error((fetched satisfies LogFailure).reason);
        const { records, next, epoch, damage } = recordsOf(fetched, position.offset);
        if (damage) throw new Error(`the catalog: ${damage}`);
        for (const { key, value } of records) {
          if (key === null) continue;
          if (value === null) this.records.delete(key.toString());
          else this.records.set(key.toString(), CatalogRecord.decode(value));
        }
        position = { offset: next, epoch: epoch >= 0 ? epoch : position.epoch };
      }
    } finally {
      reader.close();
    }
  }
}

async function ensureTopic(log: Log, name: string): Promise<TopicInfo> {
  const found = await log.admin.describeTopics([name]);
  if (found.kind !== "done") throw new Error(found.reason);
  const known = found.value.get(name);
  if (known) return known;
  const settings = { "cleanup.policy": "compact" };
  const made = await log.admin.createTopic({ name, partitions: 1, replicas: -1, settings });
  if (made.kind !== "done") throw new Error(made.reason);
  return made.value;
}
