/**
 * Decides (pure) where a sequencer that has just become the only one begins: an ordered list of checks over
 * database, slot, stamps and Kafka's progress. What does not fit together stops it: nothing is skipped,
 * repeated or renumbered (P8).
 */
import { FailClosed } from "./fail-closed.ts";
import { lsnText, type Place } from "./lsn.ts";
import type { Progress } from "./progress.ts";

/** Whose outbox it is, and the history that the slot counts in: kept in the database since the slot was made. */
export interface SlotRecord {
  readonly owner: string;
  readonly name: string;
  readonly systemId: string;
  readonly timeline: number;
  /** Commits from here on are in the slot; events of earlier ones were there when it was made. */
  readonly consistentPoint: bigint;
  readonly publication: string;
  readonly outbox: string;
}

export interface Facts {
  /** `<deployment>/<namespace>/<outbox>`. */
  readonly owner: string;
  readonly slotName: string;
  readonly systemId: string;
  readonly timeline: number;
  /** Where the timeline of the record ended, when the one of now goes back to it. */
  readonly switchPoint: bigint | undefined;
  /** Numbers of the publication and the table as they are now. */
  readonly publication: string;
  readonly outbox: string;
  readonly record: SlotRecord | undefined;
  readonly slot:
    | { readonly isOurs: boolean; readonly isLost: boolean; readonly confirmed: bigint }
    | undefined;
  /** Up to here a sequencer has seen that there is nothing to send. */
  readonly safeLsn: bigint;
  readonly progress: Progress | undefined;
  /** Last stored values, by topic name. */
  readonly lastValues: ReadonlyMap<string, number>;
}

export type Decision =
  /** A slot, if there is one, has no record: it was made and never used. */
  | { readonly kind: "make-slot"; readonly dropFirst: boolean }
  | { readonly kind: "resume"; readonly record: SlotRecord };

/** Before the first event. */
export const NOTHING_SENT: Place = { commitId: 0n, index: -1 };

interface Check {
  readonly name: string;
  /** Throws FailClosed, or decides, or leaves it to the next. */
  readonly check: (facts: Facts) => Decision | undefined;
}

const AGAIN =
  "To begin anew run the sequencer with --do forget-slot: events that wait unstamped in the outbox are then stamped in the order of their ids, not of their commits.";

const CHECKS: readonly Check[] = [
  {
    name: "the outbox is this sequencer's",
    check: ({ record, owner }) => {
      if (!record || record.owner === owner) return undefined;
      throw new FailClosed(
        "OtherOwner",
        `The outbox of this database belongs to ${record.owner}; this sequencer is ${owner}. Correct --deployment-id, --namespace, --outbox or --database; to hand it over run the other one with --do forget-slot first.`,
      );
    },
  },
  {
    name: "progress in Kafka is of this database",
    check: ({ progress, systemId }) => {
      if (!progress || progress.systemId === systemId) return undefined;
      throw new FailClosed(
        "OtherDatabase",
        `Kafka has this Outbox's progress in database cluster ${progress.systemId}; --database leads to ${systemId}. Name the right one, or give this Outbox another name.`,
      );
    },
  },
  {
    name: "Kafka has nothing that the database has not stamped",
    check: ({ progress, lastValues }) => {
      for (const [name, sequence] of progress?.sequences ?? []) {
        const stored = lastValues.get(name) ?? 0;
        if (stored >= sequence) continue;
        throw new FailClosed(
          "OtherHistory",
          `Topic "${name}" has event ${sequence} in Kafka, and the database has stamped ${stored}: it was restored from a backup, or is a copy. Events ${stored + 1} to ${sequence} are in doubt.`,
        );
      }
      return undefined;
    },
  },
  {
    name: "what was stamped has progress in Kafka",
    check: ({ progress, lastValues }) => {
      const stamped = [...lastValues].find(([, value]) => value > 0);
      if (progress || !stamped) return undefined;
      throw new FailClosed(
        "ProgressLost",
        `The database has stamped ${stamped[1]} events of "${stamped[0]}", and Kafka has no progress of this Outbox: its progress topic was deleted, or this is another Kafka. Restore it, or name the right one in --kafka.`,
      );
    },
  },
  {
    name: "a slot was made before",
    check: ({ record, slot }) => {
      if (record) return undefined;
      if (slot && !slot.isOurs)
        throw new FailClosed(
          "OtherOwner",
          "A replication slot of this name exists and is no logical slot of this database with pgoutput. Drop it if nobody needs it (pg_drop_replication_slot).",
        );
      return { kind: "make-slot", dropFirst: slot !== undefined };
    },
  },
  {
    name: "the history is the one that the slot counts in",
    check: ({ record, systemId, timeline, switchPoint, progress }) => {
      if (record?.systemId !== systemId)
        throw new FailClosed(
          "OtherDatabase",
          `The slot was made in database cluster ${record?.systemId}; this is ${systemId}, a copy. Name the right one in --database. ${AGAIN}`,
        );
      if (record.timeline === timeline) return undefined;
      // A standby that was promoted, with the slot: what was sent is in both histories.
      const sent = progress?.sent.commitId ?? 0n;
      if (switchPoint !== undefined && sent < switchPoint) return undefined;
      throw new FailClosed(
        "OtherHistory",
        switchPoint === undefined
          ? `The database is on timeline ${timeline}, which does not come from ${record.timeline}, on which the slot was made: it is another history. Name the right database in --database. ${AGAIN}`
          : `The database is on timeline ${timeline}, which left ${record.timeline} at ${lsnText(switchPoint)}: events of commits from there to ${lsnText(sent)} are in Kafka, and the database does not know them. Restore the history that has them. ${AGAIN}`,
      );
    },
  },
  {
    name: "publication and table are those that the slot was made for",
    check: ({ record, publication, outbox }) => {
      if (record?.publication === publication && record.outbox === outbox) return undefined;
      throw new FailClosed(
        "PublicationChanged",
        `The publication throughline or the table throughline.outbox was dropped and made anew; what was inserted meanwhile did not reach the slot. ${AGAIN}`,
      );
    },
  },
  {
    name: "the slot is there and whole",
    check: ({ slot, slotName }) => {
      if (!slot)
        throw new FailClosed(
          "SlotMissing",
          `Replication slot ${slotName} was dropped; what was committed since did not reach it. ${AGAIN}`,
        );
      if (slot.isLost || !slot.isOurs)
        throw new FailClosed(
          "SlotLost",
          `Replication slot ${slotName} is ${slot.isLost ? "invalid: it held back more than max_slot_wal_keep_size" : "of another kind"}. ${AGAIN}`,
        );
      return undefined;
    },
  },
  {
    name: "nobody else has moved the slot",
    check: ({ slot, record, progress, safeLsn, slotName }) => {
      const known = [record?.consistentPoint ?? 0n, progress?.confirmed ?? 0n, safeLsn];
      const ours = known.reduce((most, lsn) => (lsn > most ? lsn : most));
      if (slot && slot.confirmed <= ours) return undefined;
      throw new FailClosed(
        "SlotMoved",
        `Replication slot ${slotName} was moved to ${lsnText(slot?.confirmed ?? 0n)} by somebody else; this Outbox had read up to ${lsnText(ours)}, and what was committed in between is not in it any more. ${AGAIN}`,
      );
    },
  },
];

/** @throws FailClosed */
export function decide(facts: Facts): Decision {
  for (const { check } of CHECKS) {
    const decision = check(facts);
    if (decision) return decision;
  }
  return { kind: "resume", record: facts.record as SlotRecord };
}
