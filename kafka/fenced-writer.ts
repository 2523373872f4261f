/** A transactional writer: opening one with the same id fences the older one (the catalog's writer). */
import { ProduceAcks, Producer } from "@platformatic/kafka";
import type { KafkaOptions } from "./cluster.ts";
import { failureOfError, kafkaErrorsIn } from "./failures.ts";
import type { FencedWriter, NewRecord } from "./log.ts";

const FENCED = new Set(["INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "FENCED_INSTANCE_ID"]);

/** Rejects when Kafka cannot be asked. */
export async function openFencedWriter(
  options: KafkaOptions,
  transactionalId: string,
): Promise<FencedWriter> {
  const producer = new Producer({
    clientId: options.clientId,
    bootstrapBrokers: [...options.brokers],
    transactionalId,
    idempotent: true,
    // Without these two the library is fenced for ever after a restart.
    producerId: -1n,
    producerEpoch: -1,
    retryDelay: 100,
    ...(options.tls ? { tls: options.tls } : {}),
    ...(options.sasl ? { sasl: options.sasl } : {}),
  });
  await producer.initIdempotentProducer({});
  return {
    write: async (topic, records) => {
      try {
        const transaction = await producer.beginTransaction();
        await transaction.send({
          acks: ProduceAcks.ALL,
          messages: records.map((record) => messageOf(topic, record)),
        });
        await transaction.commit();
        return { kind: "done" };
      } catch (error) {
        if (kafkaErrorsIn(error).some(({ name }) => FENCED.has(name))) return { kind: "fenced" };
        return failureOfError(error);
      }
    },
    close: () => producer.close(true),
  };
}

function messageOf(topic: string, record: NewRecord) {
  return {
    topic,
    partition: 0,
    timestamp: BigInt(record.timeMs),
    headers: new Map(record.headers.map(([name, value]) => [Buffer.from(name), value])),
    ...(record.key ? { key: record.key } : {}),
    ...(record.value ? { value: record.value } : {}),
  };
}
