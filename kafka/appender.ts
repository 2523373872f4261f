/**
 * Appends records: batched by a linger of time and bytes, idempotent, one open send per partition (many
 * open sends gave inversions across a broker crash).
 *
 * Invariants:
 * - A1 A batch is sent again with the same producer id and sequence until its outcome is known or its
 *   time is over, so a retry cannot repeat it (P7).
 * - A2 After an unknown outcome the partition takes a new producer id: its old sequence is in doubt.
 * - A3 Bytes that wait are bounded; past the bound an append is refused as unavailable (P6).
 */
import { type Connection, createAPI, initProducerIdV5, produceV11, Writer } from "@platformatic/kafka";
import { closeConnection, type Cluster } from "./cluster.ts";
import { failureOf, failureOfError, kafkaError, responseOf } from "./failures.ts";
import type { AppendOutcome, NewRecord, TopicInfo } from "./log.ts";
import { encodeBatch, recordBytes } from "./record-batch.ts";

const LINGER_MS = 2;
const MAX_BATCH_BYTES = 512 * 1024;
const MAX_WAITING_BYTES = 32 << 20;
const DELIVERY_TIMEOUT_MS = 30_000;
const REQUEST_TIMEOUT_MS = 10_000;
const ALL_REPLICAS = -1;
const MESSAGE_TOO_LARGE = 10;
const RECORD_LIST_TOO_LARGE = 18;
const DUPLICATE_SEQUENCE = 46;
/** The broker does not know the producer or expects another sequence. */
const SEQUENCE_LOST = new Set([45, 47, 59]);
const UNKNOWN_TOPIC = 3;

const produce = createAPI<
  [topic: string, partition: number, batch: Buffer],
  ReturnType<typeof produceV11.parseResponse>
>(
  0,
  11,
  (topic, partition, batch) =>
    Writer.create()
      .appendString(null)
      .appendInt16(ALL_REPLICAS)
      .appendInt32(REQUEST_TIMEOUT_MS)
      .appendArray([topic], (w, name) => {
        w.appendString(name).appendArray([partition], (inner, index) => {
          inner.appendInt32(index).appendUnsignedVarInt(batch.length + 1).append(batch);
        });
      })
      .appendTaggedFields(),
  produceV11.parseResponse,
);

interface Waiting {
  readonly record: NewRecord;
  readonly bytes: number;
  readonly resolve: (outcome: AppendOutcome) => void;
}

interface Producer {
  readonly id: bigint;
  readonly epoch: number;
}

export class Appender {
  readonly #cluster: Cluster;
  readonly #lanes = new Map<string, Lane>();
  #waitingBytes = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  append(topic: TopicInfo, partition: number, record: NewRecord): Promise<AppendOutcome> {
    const bytes = recordBytes(record);
    if (this.#waitingBytes + bytes > MAX_WAITING_BYTES) {
      const reason = `the publish buffer is full (${MAX_WAITING_BYTES} bytes wait for Kafka)`;
      return Promise.resolve({ kind: "unavailable", reason });
    }
    this.#waitingBytes += bytes;
    const key = `${topic.id}/${partition}`;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = new Lane(this.#cluster, topic, partition, (given) => {
        this.#waitingBytes -= given;
      });
      this.#lanes.set(key, lane);
    }
    return new Promise((resolve) => (lane as Lane).add({ record, bytes, resolve }));
  }

  close(): void {
    for (const lane of this.#lanes.values()) lane.close();
    this.#lanes.clear();
  }
}

/** One partition: what waits, and the one send that is open. */
class Lane {
  readonly #cluster: Cluster;
  readonly #topic: TopicInfo;
  readonly #partition: number;
  readonly #freed: (bytes: number) => void;
  #waiting: Waiting[] = [];
  #bytes = 0;
  #sending = false;
  #linger: NodeJS.Timeout | undefined;
  #connection: Connection | undefined;
  #producer: Producer | undefined;
  #sequence = 0;
  #closed = false;

  constructor(
    cluster: Cluster,
    topic: TopicInfo,
    partition: number,
    freed: (bytes: number) => void,
  ) {
    this.#cluster = cluster;
    this.#topic = topic;
    this.#partition = partition;
    this.#freed = freed;
  }

  add(waiting: Waiting): void {
    this.#waiting.push(waiting);
    this.#bytes += waiting.bytes;
    if (this.#sending) return;
    if (this.#bytes >= MAX_BATCH_BYTES) void this.#send();
    else this.#linger ??= setTimeout(() => void this.#send(), LINGER_MS);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#linger);
    if (this.#connection) closeConnection(this.#connection);
    for (const { resolve, bytes } of this.#waiting.splice(0)) {
      this.#freed(bytes);
      resolve({ kind: "unavailable", reason: "the log is closed" });
    }
  }

  async #send(): Promise<void> {
    clearTimeout(this.#linger);
    this.#linger = undefined;
    this.#sending = true;
    while (this.#waiting.length > 0 && !this.#closed) {
      const batch = this.#take();
      const outcome = await this.#deliver(batch.map(({ record }) => record));
      for (const [i, { resolve, bytes }] of batch.entries()) {
        this.#freed(bytes);
        resolve(
          outcome.kind === "appended" ? { ...outcome, offset: outcome.offset + i } : outcome,
        );
      }
    }
    this.#sending = false;
  }

  #take(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const waiting of this.#waiting) {
      if (count > 0 && bytes + waiting.bytes > MAX_BATCH_BYTES) break;
      bytes += waiting.bytes;
      count++;
    }
    this.#bytes -= bytes;
    return this.#waiting.splice(0, count);
  }

  async #deliver(records: NewRecord[]): Promise<AppendOutcome> {
    const deadline = performance.now() + DELIVERY_TIMEOUT_MS;
    let batch: Buffer | undefined;
    let sent = false;
    let last = "Kafka does not answer";
    for (let attempt = 0; ; attempt++) {
      try {
        const connection = await this.#connected(attempt > 0);
        if (connection) {
          this.#producer ??= await newProducer(this.#cluster);
          batch ??= this.#encode(records);
          sent = true;
          const outcome = await this.#exchange(connection, batch, records.length);
          if (outcome !== "again") return outcome;
        }
      } catch (error) {
        const failure = failureOfError(error);
        this.#drop();
        if (failure.kind === "unauthorised" && !sent) return failure;
        last = failure.reason;
      }
      if (performance.now() > deadline || this.#closed) {
        if (!sent) return { kind: "unavailable", reason: last };
        this.#reset();
        return { kind: "unknown", reason: last };
      }
      await new Promise((resolve) => setTimeout(resolve, Math.min(500, 20 * 2 ** attempt)));
    }
  }

  #encode(records: NewRecord[]): Buffer {
    const producer = this.#producer as Producer;
    return encodeBatch(records, {
      producerId: producer.id,
      producerEpoch: producer.epoch,
      baseSequence: this.#sequence,
    });
  }

  async #exchange(
    connection: Connection,
    batch: Buffer,
    count: number,
  ): Promise<AppendOutcome | "again"> {
    const answer = await produce.async(connection, this.#topic.name, this.#partition, batch).catch(
      (error: unknown) => {
        const response = responseOf<ReturnType<typeof produceV11.parseResponse>>(error);
        if (response) return response;
        throw error;
      },
    );
    const part = answer.responses[0]?.partitionResponses[0];
    const code = part?.errorCode ?? -1;
    if (code === 0 || code === DUPLICATE_SEQUENCE) {
      this.#sequence = (this.#sequence + count) & 0x7fffffff;
      const offset = Number(part?.baseOffset ?? -1n);
      if (offset >= 0) return { kind: "appended", partition: this.#partition, offset };
      return { kind: "unknown", reason: "Kafka has the batch already and does not say where" };
    }
    const reason = part?.errorMessage ?? kafkaError(code).words;
    if (code === MESSAGE_TOO_LARGE || code === RECORD_LIST_TOO_LARGE) {
      return { kind: "too-large", reason: `Kafka: ${reason}` };
    }
    if (SEQUENCE_LOST.has(code)) {
      this.#reset();
      return { kind: "unknown", reason: `Kafka: ${reason}` };
    }
    if (code === UNKNOWN_TOPIC && (await this.#gone())) return { kind: "gone" };
    const failure = failureOf(code);
    if (failure.kind === "unauthorised") return failure;
    this.#drop();
    return "again";
  }

  async #gone(): Promise<boolean> {
    const view = await this.#cluster.view([this.#topic.name]);
    const found = view.topics.get(this.#topic.name);
    return found === undefined || found.errorCode === UNKNOWN_TOPIC || found.id !== this.#topic.id;
  }

  async #connected(fresh: boolean): Promise<Connection | undefined> {
    if (this.#connection) return this.#connection;
    const leader = await this.#cluster.leader(this.#topic.name, this.#partition, fresh);
    if (!leader) return undefined;
    const connection = await this.#cluster.connect(leader.broker, REQUEST_TIMEOUT_MS + 5000);
    connection.on("close", () => {
      if (this.#connection === connection) this.#connection = undefined;
    });
    this.#connection = connection;
    return connection;
  }

  #drop(): void {
    if (this.#connection) closeConnection(this.#connection);
    this.#connection = undefined;
  }

  #reset(): void {
    this.#producer = undefined;
    this.#sequence = 0;
  }
}

/** A fresh producer id (KIP-360): nothing that was in doubt can be matched with what comes. */
async function newProducer(cluster: Cluster): Promise<Producer> {
  const connection = await cluster.control();
  const answer = await initProducerIdV5.api.async(connection, null, 60_000, -1n, -1);
  return { id: answer.producerId, epoch: answer.producerEpoch };
}
