/** The log on Apache Kafka: puts the parts of this room together behind the port. */
import { KafkaAdmin } from "./admin.ts";
import { APPEND_LIMITS, Appender } from "./appender.ts";
import { AskedTogether } from "./asked-together.ts";
import { Cluster, type KafkaOptions } from "./cluster.ts";
import { CoordinatorLinks } from "./coordinator-links.ts";
import { refusalOf } from "./failures.ts";
import { openFencedWriter } from "./fenced-writer.ts";
import { KafkaGroupOffsets } from "./group-offsets.ts";
import { listOffset } from "./list-offsets.ts";
import type { Log, OffsetOutcome } from "./log.ts";
import { OpenTransactions } from "./open-transactions.ts";
import type { AppendLimits } from "./partition-appender.ts";
import { Partitioner } from "./partitioner.ts";
import { KafkaReader } from "./reader.ts";
import { openTransactionalWriter } from "./transactional-writer.ts";

/** Connects when first asked for something. */
export function openKafkaLog(options: KafkaOptions, limits: Partial<AppendLimits> = {}): Log {
  const cluster = new Cluster(options);
  const appender = new Appender(cluster, { ...APPEND_LIMITS, ...limits });
  const readers = new Set<KafkaReader>();
  const links = new CoordinatorLinks(cluster);
  // Of their own: named publishers do not wait behind offsets that are only for show.
  const groupLinks = new CoordinatorLinks(cluster);
  const partitioner = new Partitioner(Math.random);
  const open = new OpenTransactions(cluster);
  const offsets = new AskedTogether<OffsetOutcome>();
  return {
    admin: new KafkaAdmin(cluster),
    groups: new KafkaGroupOffsets(cluster, groupLinks.lane()),
    openReader: (topic, partition) => {
      const reader = new KafkaReader(cluster, topic, partition);
      readers.add(reader);
      return {
        fetch: (position, maxBytes, maxWaitMs) => reader.fetch(position, maxBytes, maxWaitMs),
        close: () => {
          readers.delete(reader);
          reader.close();
        },
      };
    },
    append: (topic, partition, record) => appender.append(topic, partition, record),
    offset: (topic, partition, spec) => {
      const place = typeof spec === "string" ? spec : spec.timeMs;
      return offsets.ask(`${topic.id}/${partition}/${place}`, () =>
        listOffset(cluster, topic, partition, spec),
      );
    },
    openFencedWriter: (topic, opened) => openFencedWriter(cluster, links.lane(), topic, opened),
    openTransactionalWriter: async (id, targets) => {
      try {
        const from = { cluster, open, partitioner, links };
        const value = await openTransactionalWriter(from, id, targets);
        return { kind: "done", value };
      } catch (error) {
        return refusalOf(error);
      }
    },
    close: async () => {
      for (const reader of readers) reader.close();
      appender.close();
      links.close();
      groupLinks.close();
      await cluster.close();
    },
  };
}
