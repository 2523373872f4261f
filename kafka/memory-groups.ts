/** Offsets of groups of the in-memory log: the twin of group-offsets.ts. */
import type { AdminOutcome, GroupOffsets, LogFailure, Position, TopicInfo } from "./log.ts";

export interface MemoryGroupsParts {
  readonly later: <T>(make: () => T) => Promise<T>;
  readonly topic: (name: string) => TopicInfo | undefined;
  /** Why nothing can be done now. */
  readonly unavailable: () => string | undefined;
}

export class MemoryGroups implements GroupOffsets {
  readonly #parts: MemoryGroupsParts;
  /** By group, then topic: the next offset of each partition. */
  readonly #groups = new Map<string, Map<string, number[]>>();

  constructor(parts: MemoryGroupsParts) {
    this.#parts = parts;
  }

  /** What was committed, by partition; undefined when the group has nothing of this topic. */
  committed(group: string, topic: string): readonly number[] | undefined {
    return this.#groups.get(group)?.get(topic);
  }

  get names(): readonly string[] {
    return [...this.#groups.keys()];
  }

  commit(
    group: string,
    topic: string,
    positions: readonly Position[],
  ): Promise<AdminOutcome<void>> {
    return this.#step(() => {
      if (!this.#parts.topic(topic)) {
        const reason = "This server does not host this topic-partition.";
        return { kind: "refused", error: "UNKNOWN_TOPIC_OR_PARTITION", reason };
      }
      const topics = this.#groups.get(group) ?? new Map<string, number[]>();
      const offsets = positions.map(({ offset }) => offset);
      this.#groups.set(
        group,
        topics.set(topic, [...offsets, ...(topics.get(topic) ?? []).slice(offsets.length)]),
      );
      return { kind: "done", value: undefined };
    });
  }

  delete(group: string): Promise<AdminOutcome<void>> {
    return this.#step(() => {
      this.#groups.delete(group);
      return { kind: "done", value: undefined };
    });
  }

  #step(act: () => AdminOutcome<void>): Promise<AdminOutcome<void>> {
    return this.#parts.later(() => {
      const reason = this.#parts.unavailable();
      return reason === undefined ? act() : ({ kind: "unavailable", reason } satisfies LogFailure);
    });
  }
}
