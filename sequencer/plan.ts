/**
 * Decides what becomes of a batch (pure): each event's order value, or why it is parked (P8).
 *
 * - A new event of a topic gets the number after the topic's last stored one. Parked events get none, so the
 *   sequence stays dense.
 * - After a restart, events that were stamped and not sent keep what they were given: event, commit and
 *   order value are compared with what the database stored, and any difference stops the sequencer.
 */
import { FailClosed } from "./fail-closed.ts";
import type { Batch, CommittedEvent } from "./intake.ts";
import { isAfter, lsnText, type Place } from "./lsn.ts";

export interface KnownTopic {
  readonly id: number;
  readonly name: string;
  readonly maxEventBytes: number;
}

export type TopicVerdict =
  | { readonly kind: "known"; readonly topic: KnownTopic }
  | { readonly kind: "parked"; readonly reason: string }
  /** It will be known again: nothing after it may overtake it. */
  | { readonly kind: "waits"; readonly reason: string };

/** What the database has of an event that was stamped. */
export interface Stamp {
  readonly eventId: bigint;
  readonly place: Place;
  /** Undefined: it was parked. */
  readonly value: { readonly topicId: number; readonly sequence: number } | undefined;
}

export interface Sequenced {
  readonly event: CommittedEvent;
  readonly topic: KnownTopic;
  readonly sequence: number;
}

export interface Parked {
  readonly event: CommittedEvent;
  readonly reason: string;
}

/** From and to which value a topic's counter moves. */
export interface Move {
  readonly topicId: number;
  readonly from: number;
  to: number;
}

export interface Plan {
  readonly batch: Batch;
  /** In order: what is sent. */
  readonly events: readonly Sequenced[];
  /** Those of them, and of the parked ones, that are not stamped yet. */
  readonly toStamp: readonly Sequenced[];
  readonly toPark: readonly Parked[];
  readonly moves: readonly Move[];
}

export type Planned =
  | { readonly kind: "plan"; readonly plan: Plan }
  | { readonly kind: "waits"; readonly reason: string };

export interface PlannerState {
  /** By topic id. */
  readonly lastValues: Map<number, number>;
  /** Stamped and not in Kafka, in order. */
  readonly unsent: readonly Stamp[];
}

export class Planner {
  readonly #lastValues: Map<number, number>;
  readonly #unsent: Stamp[];

  constructor({ lastValues, unsent }: PlannerState) {
    this.#lastValues = lastValues;
    this.#unsent = [...unsent].sort((a, b) => (isAfter(a.place, b.place) ? 1 : -1));
  }

  /** A plan counts its events as stamped: it is carried out, or the planner made anew. @throws FailClosed */
  plan(batch: Batch, topicOf: (name: string) => TopicVerdict): Planned {
    const known = new Map<string, Counted>();
    let counted: Counted | undefined;
    const { events: all } = batch;
    for (let i = 0; i < all.length; i++) {
      const event = all[i] as CommittedEvent;
      const { topic } = event;
      if (counted?.name !== topic) {
        counted = known.get(topic);
        if (!counted) {
          const verdict = topicOf(topic);
          if (verdict.kind === "waits") return verdict;
          counted = { name: topic, verdict, move: undefined };
          known.set(topic, counted);
        }
      }
      const stamp = this.#unsent[i];
      if (!stamp) continue;
      const { verdict } = counted;
      assertSame(event, stamp, verdict);
      if (verdict.kind === "parked" && stamp.value) {
        const which = `event ${stamp.eventId} has its number already`;
        return { kind: "waits", reason: `${verdict.reason}; ${which}: apply its Topic again` };
      }
    }
    const events: Sequenced[] = [];
    const toStamp: Sequenced[] = [];
    const toPark: Parked[] = [];
    const moves: Move[] = [];
    for (let i = 0; i < all.length; i++) {
      const event = all[i] as CommittedEvent;
      if (counted?.name !== event.topic) counted = known.get(event.topic) as Counted;
      const { verdict } = counted;
      const stamp = this.#unsent[i];
      if (stamp) {
        const { topic } = verdict as { readonly topic: KnownTopic };
        if (stamp.value) events.push({ event, topic, sequence: stamp.value.sequence });
        continue;
      }
      const why = verdict.kind === "parked" ? verdict.reason : unsendable(event, verdict.topic);
      if (why !== undefined) {
        toPark.push({ event, reason: why });
        continue;
      }
      const { topic } = verdict as { readonly topic: KnownTopic };
      if (!counted.move) {
        const from = this.#lastValues.get(topic.id) ?? 0;
        counted.move = { topicId: topic.id, from, to: from };
        moves.push(counted.move);
      }
      const one = { event, topic, sequence: ++counted.move.to };
      events.push(one);
      toStamp.push(one);
    }
    for (const { topicId, to } of moves) this.#lastValues.set(topicId, to);
    this.#unsent.splice(0, all.length);
    return { kind: "plan", plan: { batch, events, toStamp, toPark, moves } };
  }
}

/** A topic of a batch. */
interface Counted {
  readonly name: string;
  readonly verdict: Exclude<TopicVerdict, { kind: "waits" }>;
  move: Move | undefined;
}

/** The slot begins again where Kafka's progress ends, so events and stamps come in step. */
function assertSame(
  event: CommittedEvent,
  stamp: Stamp,
  verdict: Exclude<TopicVerdict, { kind: "waits" }>,
): void {
  const { eventId, place, value } = stamp;
  const isSame =
    eventId === event.id && place.commitId === event.commit.id && place.index === event.index;
  const isItsTopic = !value || verdict.kind === "parked" || verdict.topic.id === value.topicId;
  if (isSame && isItsTopic) return;
  throw new FailClosed(
    "StampsChanged",
    `Event ${event.id} ("${event.topic}", number ${event.index} of commit ${lsnText(event.commit.id)}) stands where the database stamped event ${eventId} (number ${place.index} of commit ${lsnText(place.commitId)}${value ? `, topic ${value.topicId}` : ""}): throughline.order_values was changed, or this is another database. Restore what was there; nothing was sent.`,
  );
}

export const NO_HEADERS =
  "its headers are no JSON object, or have names that are Throughline's own";

/** The table's trigger refuses it all; but its owner may go around that, and so does a restored dump. */
function unsendable(event: CommittedEvent, { maxEventBytes }: KnownTopic): string | undefined {
  const { type, key, payload, headers } = event;
  if (headers && !areHeaders(headers)) return NO_HEADERS;
  let bytes = type.length + (key?.length ?? 0) + (payload?.length ?? 0);
  bytes += headers?.length ?? 0;
  return bytes > maxEventBytes
    ? `it has ${bytes} bytes, and its Topic takes up to ${maxEventBytes}`
    : undefined;
}

/** Parsed only where a name may be one of ours. */
function areHeaders(json: Buffer): boolean {
  if (json[0] !== OBJECT) return false;
  if (!OURS.some((name) => json.includes(`"${name}`))) return true;
  const names = Object.keys(JSON.parse(json.toString("utf8")) as object);
  return !names.some((name) => OURS.some((ours) => name.startsWith(ours)));
}

const OBJECT = 0x7b;
const OURS = ["tl-", "ce_type"];
