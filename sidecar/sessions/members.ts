/** Joining shared sessions: what a stream gets when it opens one. What it then has is member-hold.ts. */
import type { Position } from "../../kafka/log.ts";
import type { Clock } from "../../process/clock.ts";
import type { SubscribeOpen } from "../../proto/gen/throughline/v1/throughline.ts";
import { Failure } from "../failure.ts";
import { afterRecreation, lookUpOne, resolveStart } from "../open.ts";
import type { ServerContext } from "../server-context.ts";
import { MemberHold } from "./member-hold.ts";
import { type Join, placesOf } from "./membership.ts";
import { unavailable } from "./session-hold.ts";
import { readKnown, type SessionOptions } from "./session-options.ts";
import type { JoinOutcome, SessionKey, SessionStore } from "./session-store.ts";
import type { SessionTopic } from "./sessions.ts";

export interface OpenedMember {
  readonly hold: MemberHold;
  /** Nobody had a position before. */
  readonly isNew: boolean;
  /** Where the session stood at the join. */
  readonly positions: readonly Position[];
  /** Where it stood in the topic before it was recreated. */
  readonly recreatedFrom: readonly Position[] | undefined;
  readonly stuckMs: number;
  /** One past the last committed event. @throws Failure */
  endOf(partition: number): Promise<number>;
  leave(isInOrder: boolean): Promise<void>;
}

export interface MembersParts {
  readonly server: Pick<
    ServerContext,
    "log" | "serverName" | "shape" | "reliability" | "limits" | "metrics"
  >;
  readonly store: SessionStore;
  /** For intervals. */
  readonly clock: Clock;
  readonly key: SessionKey;
  readonly id: string;
  leave(hold: MemberHold, isInOrder: boolean): Promise<void>;
}

/** @throws Failure; nothing has changed then. */
export async function openMember(
  parts: MembersParts,
  { info, topic, identity }: SessionTopic,
  options: SessionOptions,
  { start, recovery }: Pick<SubscribeOpen, "start" | "recovery">,
): Promise<OpenedMember> {
  if (start?.at?.$case === "token") {
    throw new Failure(
      "INVALID_REQUEST",
      "open.start.token: a shared session goes on where it stands; SeekSession repositions it.",
    );
  }
  const { instance, attempt, strict } = options;
  const known = readKnown(options, identity, topic.partitions);
  const { server, store, clock, key, id } = parts;
  const { log, limits } = server;
  const times = { lapseMs: limits.memberLapseMs, revokeMs: limits.memberRevokeMs };
  let sentMs = 0;
  const join = (more: Partial<Join>): Promise<JoinOutcome> => {
    sentMs = clock.now();
    const { id: topicId, partitions } = info;
    const by = { id, topicId, instance, attempt, server: server.serverName };
    return store.join(key, { ...by, ...times, partitions, ...(known && { known }), ...more });
  };
  let outcome = await join({});
  const isNew = outcome.kind === "unset";
  let recreatedFrom: readonly Position[] | undefined;
  if (outcome.kind === "unset") {
    const from = await resolveStart(log, info, topic, identity, recovery, start);
    outcome = await join({ start: from.positions });
  } else if (outcome.kind === "other-topic") {
    recreatedFrom = placesOf(outcome.membership);
    outcome = await join({ start: await afterRecreation(log, info, topic, recovery), anew: true });
  }
  switch (outcome.kind) {
    case "joined": {
      const hold = new MemberHold(
        {
          ...{ store, clock, key, id, topicId: info.id, instance, strict, ...times },
          ...{ returnMs: limits.memberReturnMs, metrics: server.metrics },
        },
        outcome,
        sentMs,
      );
      return {
        ...{ hold, isNew, recreatedFrom, stuckMs: limits.memberStuckMs },
        positions: placesOf(outcome.membership),
        endOf: async (partition) => (await lookUpOne(log, info, partition, "latest")).offset,
        leave: (isInOrder) => {
          // In a pod that goes there is no other server for it to come back at.
          if (server.shape === "pod" && server.reliability.draining) hold.expel();
          return parts.leave(hold, isInOrder);
        },
      };
    }
    case "unavailable":
      throw unavailable(outcome.reason);
    case "unreadable":
      throw new Failure("SESSION_UNREADABLE", outcome.reason);
    case "other-mode":
      throw new Failure(
        "SESSION_MODE_DIFFERS",
        "open.session.mode: this session is stored as EXCLUSIVE.",
      );
    case "late":
      throw new Failure(
        "SUPERSEDED",
        `open.session.attempt: is ${attempt}; attempt ${outcome.attempt} of this instance is a member.`,
      );
    default:
      throw new Failure("SUPERSEDED", "Another stream began this session anew meanwhile.");
  }
}
