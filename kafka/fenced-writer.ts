/**
 * Writes whole transactions to partition 0 of a topic, under a transactional id: opening one with the
 * same id fences the older one (the catalog's writer). For small topics: one transaction at a time, and what is
 * to be written meanwhile goes into the next one together.
 *
 * After a failure in mid-transaction the writer takes a new epoch of its own, which aborts what is open;
 * that fails, as fenced, when another writer came since. So a fenced writer never comes back by itself.
 */
import type { Connection } from "@platformatic/kafka";
import { type Broker, type Cluster, closeConnection } from "./cluster.ts";
import type { Lane } from "./coordinator.ts";
import {
  failureOfError,
  INVALID_PRODUCER_EPOCH,
  INVALID_PRODUCER_ID_MAPPING,
  kafkaError,
  kafkaErrorsIn,
  PRODUCER_FENCED,
  refusalOf,
} from "./failures.ts";
import type { AdminRefusal, FencedWriter, LogFailure, NewRecord } from "./log.ts";
import { produceInTransaction } from "./produce.ts";
import { encodeBatch, recordBytes } from "./record-batch.ts";
import {
  ANEW,
  type TransactionalIdentity,
  TransactionCoordinator,
} from "./transaction-coordinator.ts";

const BATCH_BYTES = 256 << 10;
const PRODUCE_TIMEOUT_MS = 15_000;
const REQUEST_TIMEOUT_MS = 5000;
/** Someone newer has the transactional id, or it lay idle until Kafka forgot it. */
const FENCED: readonly number[] = [
  INVALID_PRODUCER_EPOCH,
  INVALID_PRODUCER_ID_MAPPING,
  PRODUCER_FENCED,
];

type Written = Awaited<ReturnType<FencedWriter["write"]>>;

interface Waiting {
  readonly topic: string;
  readonly records: readonly NewRecord[];
  readonly done: (written: Written) => void;
}

/** Rejects when Kafka cannot be asked, or refuses. */
export async function openFencedWriter(
  cluster: Cluster,
  lane: Lane,
  transactionalId: string,
): Promise<FencedWriter> {
  const coordinator = new TransactionCoordinator(cluster, transactionalId, lane);
  const identity = await coordinator.initialise(ANEW);
  return new KafkaFencedWriter(cluster, transactionalId, coordinator, identity);
}

class KafkaFencedWriter implements FencedWriter {
  readonly #cluster: Cluster;
  readonly #id: string;
  readonly #coordinator: TransactionCoordinator;
  #identity: TransactionalIdentity;
  /** Next sequence by topic, within this epoch. */
  readonly #sequences = new Map<string, number>();
  /** A transaction may be open that must not be committed. */
  #spoiled = false;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;
  #link: { readonly to: string; readonly connection: Connection } | undefined;

  constructor(
    cluster: Cluster,
    transactionalId: string,
    coordinator: TransactionCoordinator,
    identity: TransactionalIdentity,
  ) {
    this.#cluster = cluster;
    this.#id = transactionalId;
    this.#coordinator = coordinator;
    this.#identity = identity;
  }

  write(topic: string, records: readonly NewRecord[]): Promise<Written> {
    if (records.length === 0) return Promise.resolve({ kind: "done" });
    return new Promise((done) => {
      this.#waiting.push({ topic, records, done });
      // Those of this turn are written together.
      this.#running ??= Promise.resolve().then(() => this.#run());
    });
  }

  async close(): Promise<void> {
    await this.#running;
    this.#drop();
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const together = this.#take();
      const written = await this.#write(together);
      // It may be about one of them only.
      if (written.kind === "refused" && together.length > 1)
        for (const one of together) one.done(await this.#write([one]));
      else for (const { done } of together) done(written);
    }
    this.#running = undefined;
  }

  #take(): Waiting[] {
    let bytes = 0;
    let count = 0;
    for (const { records } of this.#waiting) {
      bytes += records.reduce((sum, record) => sum + recordBytes(record), 0);
      if (count > 0 && bytes > BATCH_BYTES) break;
      count++;
    }
    return this.#waiting.splice(0, count);
  }

  async #write(together: readonly Waiting[]): Promise<Written> {
    const byTopic = new Map<string, NewRecord[]>();
    for (const { topic, records } of together)
      byTopic.set(topic, [...(byTopic.get(topic) ?? []), ...records]);
    try {
      if (this.#spoiled) await this.#recover();
      this.#spoiled = true;
      const partitions = [...byTopic.keys()].map((name) => ({ name, partitions: [0] }));
      await this.#coordinator.addPartitions(this.#identity, partitions);
      for (const [topic, records] of byTopic)
        for (const some of chunks(records)) await this.#produce(topic, some);
      await this.#coordinator.end(this.#identity, "commit");
      this.#spoiled = false;
      return { kind: "done" };
    } catch (error) {
      const outcome = outcomeOf(error);
      // Readers wait for the end of an open transaction: not until the next write.
      if (outcome.kind !== "fenced") await this.#recover().catch(() => {});
      return outcome;
    }
  }

  async #recover(): Promise<void> {
    this.#identity = await this.#coordinator.initialise(this.#identity);
    this.#sequences.clear();
    this.#spoiled = false;
  }

  /** The same bytes until they are answered for; the broker drops what it has already. */
  async #produce(topic: string, records: readonly NewRecord[]): Promise<void> {
    const baseSequence = this.#sequences.get(topic) ?? 0;
    const batch = encodeBatch(records, { ...this.#identity, baseSequence, transactional: true });
    const deadline = performance.now() + PRODUCE_TIMEOUT_MS;
    for (let attempt = 0; ; attempt++) {
      try {
        await this.#produceOnce(topic, batch, attempt > 0);
        this.#sequences.set(topic, baseSequence + records.length);
        return;
      } catch (error) {
        const judged = error instanceof Refused ? !error.judged.retryable : false;
        if (judged || performance.now() > deadline) throw error;
        await new Promise((resolve) => setTimeout(resolve, Math.min(500, 20 * 2 ** attempt)));
      }
    }
  }

  async #produceOnce(name: string, batch: Buffer, fresh: boolean): Promise<void> {
    const leader = await this.#cluster.leader(name, 0, fresh);
    if (!leader) throw new Error(`nobody leads ${name}[0]`);
    const connection = await this.#connectionTo(leader.broker);
    try {
      const topic = { name, id: "", partitions: 1, replicas: 0 };
      const parts = [{ topic, partition: 0, batch }];
      const produce = produceInTransaction(connection);
      const [answer] = await produce(parts, REQUEST_TIMEOUT_MS, this.#id);
      if (answer?.error !== 0) throw new Refused(answer?.error ?? -1, answer?.said ?? null);
    } catch (error) {
      this.#drop();
      throw error;
    }
  }

  async #connectionTo(broker: Broker): Promise<Connection> {
    const to = `${broker.host}:${broker.port}`;
    if (this.#link?.to === to) return this.#link.connection;
    this.#drop();
    const connection = await this.#cluster.connect(broker, REQUEST_TIMEOUT_MS);
    const link = { to, connection };
    this.#link = link;
    connection.on("close", () => {
      if (this.#link === link) this.#link = undefined;
    });
    return connection;
  }

  #drop(): void {
    const link = this.#link;
    this.#link = undefined;
    if (link) closeConnection(link.connection);
  }
}

/** A batch that the leader did not take. */
class Refused extends Error {
  readonly judged: ReturnType<typeof kafkaError>;
  /** Read by `kafkaErrorsIn`, as in the library's own exceptions. */
  readonly apiCode: number;
  readonly serverErrorMessage: string | null;

  constructor(code: number, said: string | null) {
    super(kafkaError(code, said).words);
    this.judged = kafkaError(code, said);
    this.apiCode = code;
    this.serverErrorMessage = said;
  }
}

function outcomeOf(error: unknown): { readonly kind: "fenced" } | AdminRefusal | LogFailure {
  const errors = kafkaErrorsIn(error);
  if (errors.some(({ code }) => FENCED.includes(code))) return { kind: "fenced" };
  return errors.length > 0 ? refusalOf(error) : failureOfError(error);
}

function* chunks(records: readonly NewRecord[]): Generator<NewRecord[]> {
  let chunk: NewRecord[] = [];
  let bytes = 0;
  for (const record of records) {
    const more = recordBytes(record);
    if (chunk.length > 0 && bytes + more > BATCH_BYTES) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(record);
    bytes += more;
  }
  yield chunk;
}
