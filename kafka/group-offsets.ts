/**
 * Offsets of groups that have no members: what Kafka's tools and lag exporters show.
 *
 * OffsetCommit with generation -1 and no member is what a consumer sends that assigns its partitions
 * itself; Kafka refuses it (UNKNOWN_MEMBER_ID) while a consumer is a member of the group. Version 9 names
 * topics: that the name still stands for the topic meant is the caller's to know.
 */
import { deleteGroupsV2, offsetCommitV9 } from "@platformatic/kafka";
import type { Cluster } from "./cluster.ts";
import { Coordinator, type Lane } from "./coordinator.ts";
import {
  COORDINATOR_LOAD_IN_PROGRESS,
  COORDINATOR_NOT_AVAILABLE,
  kafkaErrorsIn,
  NOT_COORDINATOR,
  refusalOf,
  UNKNOWN_TOPIC_OR_PARTITION,
} from "./failures.ts";
import type { AdminOutcome, GroupOffsets, Position } from "./log.ts";

const WITHIN_MS = 5000;
/** Groups whose coordinator is remembered. Who is forgotten is found again. */
const REMEMBERED = 10_000;
const NO_MEMBER = "";
const NO_GENERATION = -1;

/** The rest is an answer: a topic that is not there, say, is not waited for. */
const MAY_PASS: readonly number[] = [
  COORDINATOR_LOAD_IN_PROGRESS,
  COORDINATOR_NOT_AVAILABLE,
  NOT_COORDINATOR,
];

export class KafkaGroupOffsets implements GroupOffsets {
  readonly #cluster: Cluster;
  readonly #lane: Lane;
  readonly #coordinators = new Map<string, Coordinator>();

  constructor(cluster: Cluster, lane: Lane) {
    this.#cluster = cluster;
    this.#lane = lane;
  }

  commit(
    group: string,
    topic: string,
    positions: readonly Position[],
  ): Promise<AdminOutcome<void>> {
    const partitions = positions.map(({ offset, epoch }, partitionIndex) => ({
      ...{ partitionIndex, committedOffset: BigInt(offset), committedLeaderEpoch: epoch },
      committedMetadata: "",
    }));
    return judged(
      this.#coordinator(group).ask((connection) =>
        offsetCommitV9.api.async(connection, group, NO_GENERATION, NO_MEMBER, null, [
          { name: topic, partitions },
        ]),
      ),
    );
  }

  async delete(group: string): Promise<AdminOutcome<void>> {
    const coordinator = this.#coordinator(group);
    this.#coordinators.delete(group);
    const outcome = await judged(
      coordinator.ask((connection) => deleteGroupsV2.api.async(connection, [group])),
    );
    // A question whose answer was lost is asked again, and finds nothing: it did what was asked.
    const isGone = outcome.kind === "refused" && outcome.error === "GROUP_ID_NOT_FOUND";
    return isGone ? { kind: "done", value: undefined } : outcome;
  }

  #coordinator(group: string): Coordinator {
    const known = this.#coordinators.get(group);
    if (known) return known;
    for (const [oldest] of this.#coordinators) {
      if (this.#coordinators.size < REMEMBERED) break;
      this.#coordinators.delete(oldest);
    }
    const made = new Coordinator(this.#cluster, {
      ...{ kind: "GROUP", id: group, lane: this.#lane, withinMs: WITHIN_MS },
      mayPass: ({ code }) => MAY_PASS.includes(code),
    });
    this.#coordinators.set(group, made);
    return made;
  }
}

async function judged(step: Promise<unknown>): Promise<AdminOutcome<void>> {
  try {
    await step;
    return { kind: "done", value: undefined };
  } catch (error) {
    // Retryable to a client that waits for a new topic; here it is the answer.
    const missing = kafkaErrorsIn(error).find(({ code }) => code === UNKNOWN_TOPIC_OR_PARTITION);
    if (missing) return { kind: "refused", error: missing.name, reason: missing.words };
    return refusalOf(error);
  }
}
