/** A Commit topic as kafkajs reads it, which shares no code with our reader. */
import { Kafka, logLevel } from "kafkajs";
import type { Log, TopicInfo } from "../../kafka/log.ts";
import { END } from "../kafka/witness.ts";

export interface Delivered {
  readonly sequence: number;
  readonly commitId: bigint;
  readonly value: string;
  readonly payload: Buffer | null;
  readonly key: string | undefined;
  /** Without those of order value and commit. */
  readonly headers: Readonly<Record<string, string>>;
}

export async function infoOf(log: Log, name: string): Promise<TopicInfo> {
  const found = await log.admin.describeTopics([name]);
  const info = found.kind === "done" ? found.value.get(name) : undefined;
  if (!info) throw new Error(`${name}: ${found.kind}`);
  return info;
}

/** Every committed event; the last one is ours, and says where the topic ends: nothing sequences it any more. */
export async function delivered(
  log: Log,
  brokers: readonly string[],
  name: string,
): Promise<Delivered[]> {
  const end = { key: null, value: Buffer.from(END), headers: [], timeMs: Date.now() };
  const appended = await log.append(await infoOf(log, name), 0, end);
  if (appended.kind !== "appended") throw new Error(JSON.stringify(appended));
  const kafka = new Kafka({ brokers: [...brokers], logLevel: logLevel.NOTHING });
  const consumer = kafka.consumer({ groupId: `witness-${name}`, readUncommitted: false });
  await consumer.connect();
  await consumer.subscribe({ topic: name, fromBeginning: true });
  const seen: Delivered[] = [];
  await new Promise<void>((resolve, reject) => {
    consumer
      .run({
        eachMessage: async ({ message: { key, value, headers = {} } }) => {
          if (String(value) === END) return resolve();
          const int64 = (header: string): bigint =>
            (headers[header] as Buffer | undefined)?.readBigInt64BE() ?? -1n;
          seen.push({
            sequence: Number(int64("tl-sequence")),
            commitId: int64("tl-commit-id"),
            ...{ value: String(value), payload: value, key: key?.toString() },
            headers: Object.fromEntries(
              Object.entries(headers)
                .filter(([name]) => !name.startsWith("tl-"))
                .map(([name, bytes]) => [name, String(bytes)]),
            ),
          });
        },
      })
      .catch(reject);
  });
  await consumer.disconnect();
  return seen;
}
