/** Topics of the in-memory log. */
import { randomBytes } from "node:crypto";
import type { AdminOutcome, LogAdmin, TopicId, TopicInfo, TopicSettings } from "./log.ts";
import { MemoryPartition } from "./memory-partition.ts";

interface MemoryTopic {
  info: TopicInfo;
  settings: Record<string, string>;
  readonly partitions: MemoryPartition[];
}

export class MemoryAdmin implements LogAdmin {
  readonly #topics = new Map<string, MemoryTopic>();
  readonly #later: <T>(make: () => T) => Promise<T>;

  constructor(later: <T>(make: () => T) => Promise<T>) {
    this.#later = later;
  }

  create(name: string, partitions: number, settings: TopicSettings): TopicInfo {
    const info = { name, id: randomBytes(16).toString("hex"), partitions, replicas: 1 };
    this.#topics.set(name, {
      info,
      settings: { ...settings },
      partitions: Array.from({ length: partitions }, () => new MemoryPartition()),
    });
    return info;
  }

  remove(name: string): void {
    this.#topics.delete(name);
  }

  info(name: string): TopicInfo | undefined {
    return this.#topics.get(name)?.info;
  }

  /** The partition, when the topic still has this id. */
  partition(topic: TopicInfo, partition: number): MemoryPartition | undefined {
    const found = this.#topics.get(topic.name);
    return found?.info.id === topic.id ? found.partitions[partition] : undefined;
  }

  describeTopics(names: readonly string[]): Promise<AdminOutcome<ReadonlyMap<string, TopicInfo>>> {
    return this.#later(() => {
      const found = names.flatMap((name) => this.info(name) ?? []);
      return { kind: "done", value: new Map(found.map((info) => [info.name, info])) };
    });
  }

  listTopics(prefix = ""): Promise<AdminOutcome<readonly string[]>> {
    return this.#later(() => {
      const value = [...this.#topics.keys()].filter((name) => name.startsWith(prefix));
      return { kind: "done", value };
    });
  }

  createTopic(topic: Parameters<LogAdmin["createTopic"]>[0]): Promise<AdminOutcome<TopicInfo>> {
    return this.#later(() => {
      if (this.#topics.has(topic.name)) {
        return refused("TOPIC_ALREADY_EXISTS", `Topic '${topic.name}' already exists.`);
      }
      return { kind: "done", value: this.create(topic.name, topic.partitions, topic.settings) };
    });
  }

  createPartitions(name: string, partitions: number): Promise<AdminOutcome<void>> {
    return this.#change(name, (topic) => {
      const has = topic.partitions.length;
      if (partitions <= has) {
        const reason = `The topic ${name} currently has ${has} partition(s); ${partitions} would not be an increase.`;
        return refused("INVALID_PARTITIONS", reason);
      }
      while (topic.partitions.length < partitions) topic.partitions.push(new MemoryPartition());
      topic.info = { ...topic.info, partitions };
      return undefined;
    });
  }

  settings(name: string): Promise<AdminOutcome<TopicSettings>> {
    return this.#later(() => {
      const topic = this.#topics.get(name);
      return topic ? { kind: "done", value: { ...topic.settings } } : unknown(name);
    });
  }

  changeSettings(
    name: string,
    set: TopicSettings,
    unset: readonly string[],
  ): Promise<AdminOutcome<void>> {
    return this.#change(name, (topic) => {
      Object.assign(topic.settings, set);
      for (const key of unset) delete topic.settings[key];
      return undefined;
    });
  }

  deleteTopic(id: TopicId): Promise<AdminOutcome<void>> {
    return this.#later(() => {
      const found = [...this.#topics.values()].find((topic) => topic.info.id === id);
      if (!found) return refused("UNKNOWN_TOPIC_ID", "This server does not host this topic ID.");
      this.remove(found.info.name);
      return { kind: "done", value: undefined };
    });
  }

  #change(
    name: string,
    act: (topic: MemoryTopic) => AdminOutcome<void> | undefined,
  ): Promise<AdminOutcome<void>> {
    return this.#later(() => {
      const topic = this.#topics.get(name);
      if (!topic) return unknown(name);
      return act(topic) ?? { kind: "done", value: undefined };
    });
  }
}

function refused(
  error: string,
  reason: string,
): { kind: "refused"; error: string; reason: string } {
  return { kind: "refused", error, reason };
}

function unknown(name: string): { kind: "refused"; error: string; reason: string } {
  return refused("UNKNOWN_TOPIC_OR_PARTITION", `This server does not host topic '${name}'.`);
}
