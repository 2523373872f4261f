/**
 * The dispatching of one server: per Kafka topic id the partitions that have clients here. A topic's
 * dispatchers are made by its first stream and end `lingerMs` after its last, so that a client that
 * comes back finds its events in memory.
 */
import type { TopicInfo } from "../../kafka/log.ts";
import type { DispatchHost } from "./dispatch-host.ts";
import { PartitionDispatch } from "./partition-dispatch.ts";

const LINGER_MS = 10_000;

export interface TopicUser {
  /** The topic's data is no more under this id. */
  gone(): void;
}

export class TopicDispatch {
  readonly topic: TopicInfo;
  readonly users = new Set<TopicUser>();
  readonly #host: DispatchHost;
  readonly #partitions: PartitionDispatch[] = [];
  readonly #ended: () => void;
  #cancelLinger: (() => void) | undefined;

  constructor(host: DispatchHost, topic: TopicInfo, ended: () => void) {
    this.#host = host;
    this.topic = topic;
    this.#ended = ended;
  }

  partition(index: number): PartitionDispatch {
    for (let i = this.#partitions.length; i <= index; i++) {
      this.#partitions.push(
        new PartitionDispatch(this.#host, this.topic, i, {
          gone: () => this.gone(),
          unreadable: () => this.#ended(),
        }),
      );
    }
    return this.#partitions[index] as PartitionDispatch;
  }

  get partitionsServed(): number {
    return this.#partitions.length;
  }

  enter(user: TopicUser): void {
    this.#cancelLinger?.();
    this.#cancelLinger = undefined;
    this.users.add(user);
  }

  leave(user: TopicUser): void {
    if (!this.users.delete(user) || this.users.size > 0) return;
    this.#cancelLinger = this.#host.clock.setTimer(LINGER_MS, () => this.close());
  }

  gone(): void {
    for (const user of [...this.users]) user.gone();
    this.close();
  }

  close(): void {
    this.#cancelLinger?.();
    this.#ended();
    for (const partition of this.#partitions.splice(0)) partition.close();
  }
}

export class Dispatch {
  readonly #host: DispatchHost;
  readonly #topics = new Map<string, TopicDispatch>();

  constructor(host: DispatchHost) {
    this.#host = host;
  }

  topic(topic: TopicInfo): TopicDispatch {
    const known = this.#topics.get(topic.id);
    if (known) return known;
    const made: TopicDispatch = new TopicDispatch(this.#host, topic, () => {
      if (this.#topics.get(topic.id) === made) this.#topics.delete(topic.id);
    });
    this.#topics.set(topic.id, made);
    return made;
  }

  find(topicId: string): TopicDispatch | undefined {
    return this.#topics.get(topicId);
  }

  get partitionsServed(): number {
    let count = 0;
    for (const topic of this.#topics.values()) count += topic.partitionsServed;
    return count;
  }

  close(): void {
    for (const topic of [...this.#topics.values()]) topic.close();
  }
}
