/**
 * Appends to partition 0 of a topic, fenced: of those that open a writer for the same topic the last one
 * writes, and Kafka takes nothing of the others (the catalog's writer).
 *
 * The fence is an epoch, as of a transactional id, but there is no transaction: a batch is one request.
 * The id's coordinator gives the epochs, each higher than all before, and the partition's leader refuses
 * batches of an epoch below the highest that it has seen, as it does for every idempotent producer.
 *
 * F1 A writer is open once a record of its own epoch is in the log: from then on the leader refuses older
 *    writers, and after a crash it learns so from the log.
 * F2 Who is refused asks the coordinator for an epoch above its own; that one knows whether somebody newer is there,
 *    or has asked and not come to write.
 * F3 A leader forgets a producer whose last record is a day old (producer.id.expiration.ms), and the coordinator an
 *    id after seven (transactional.id.expiration.ms). So an epoch is used for an hour, and an open writer writes each
 *    hour, with the time of then.
 *
 * What is left: an epoch has 15 bits, and each hour and each batch that fails takes one; after 32,767 Kafka gives
 * another producer id, which fences nobody.
 */
import { APPEND_LIMITS, Appender } from "./appender.ts";
import type { Cluster } from "./cluster.ts";
import type { Lane } from "./coordinator.ts";
import { FENCES, hasError, INVALID_PRODUCER_ID_MAPPING } from "./failures.ts";
import type { AdminOutcome, FencedWriter, NewRecord, TopicInfo } from "./log.ts";
import { NoIdentity, ProducerIdentity } from "./producer-identity.ts";
import {
  ANEW,
  type TransactionalIdentity,
  TransactionCoordinator,
} from "./transaction-coordinator.ts";

/** A record waits for no others, and an operator is told soon. */
const LIMITS = {
  ...APPEND_LIMITS,
  ...{ lingerMs: 0, deliveryTimeoutMs: 15_000, requestTimeoutMs: 5000 },
};
/** F3 */
const EPOCH_MS = 3_600_000;

type Written = Awaited<ReturnType<FencedWriter["write"]>>;

/** @param epochMs F3 */
export async function openFencedWriter(
  cluster: Cluster,
  lane: Lane,
  topic: TopicInfo,
  opened: NewRecord,
  epochMs = EPOCH_MS,
): Promise<AdminOutcome<FencedWriter>> {
  const coordinator = new TransactionCoordinator(cluster, topic.name, lane);
  const writer = new KafkaFencedWriter(cluster, topic, new Epochs(coordinator, epochMs));
  // F1
  const written = await writer.write(opened);
  if (written.kind === "appended") {
    writer.writeEach(epochMs, opened);
    return { kind: "done", value: writer };
  }
  writer.close();
  if (written.kind === "unauthorised") return written;
  if (written.kind === "fenced") {
    const reason = `a newer writer of ${topic.name} was opened meanwhile`;
    return { kind: "refused", error: "PRODUCER_FENCED", reason };
  }
  const reason = written.kind === "gone" ? `${topic.name} is gone` : written.reason;
  return { kind: "unavailable", reason };
}

class KafkaFencedWriter implements FencedWriter {
  readonly #appender: Appender;
  readonly #topic: TopicInfo;
  readonly #epochs: Epochs;
  #writing: NodeJS.Timeout | undefined;

  constructor(cluster: Cluster, topic: TopicInfo, epochs: Epochs) {
    this.#appender = new Appender(cluster, LIMITS, () => epochs.next());
    this.#topic = topic;
    this.#epochs = epochs;
  }

  async write(record: NewRecord): Promise<Written> {
    const written = await this.#appender.append(this.#topic, 0, record);
    return written.kind !== "appended" && this.#epochs.areOver ? { kind: "fenced" } : written;
  }

  writeEach(ms: number, record: NewRecord): void {
    const write = (): void => void this.write({ ...record, timeMs: Date.now() });
    this.#writing = setInterval(write, ms).unref();
  }

  close(): void {
    clearInterval(this.#writing);
    this.#appender.close();
  }
}

/** F2: the first one fences whoever was there, each further one fails when somebody newer is. */
class Epochs {
  readonly #coordinator: TransactionCoordinator;
  readonly #epochMs: number;
  #held: TransactionalIdentity = ANEW;
  #asking: Promise<TransactionalIdentity> | undefined;
  /** Somebody newer is there. */
  areOver = false;

  constructor(coordinator: TransactionCoordinator, epochMs: number) {
    this.#coordinator = coordinator;
    this.#epochMs = epochMs;
  }

  async next(): Promise<ProducerIdentity> {
    // Who gave up waiting for one may wait for it once more.
    this.#asking ??= this.#coordinator.initialise(this.#held);
    try {
      this.#held = await this.#asking;
    } catch (error) {
      this.areOver ||= hasError(error, ...FENCES, INVALID_PRODUCER_ID_MAPPING);
      throw this.areOver ? new NoIdentity("somebody newer writes", { cause: error }) : error;
    } finally {
      this.#asking = undefined;
    }
    const { producerId, producerEpoch } = this.#held;
    return new ProducerIdentity(producerId, producerEpoch, performance.now() + this.#epochMs);
  }
}
