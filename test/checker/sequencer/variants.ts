/**
 * The mechanisms of P8, each broken on purpose in sequencers that are started for it: by wrapping one function that
 * the product is given, never by a copy of it. A short run of the checker must find the harm.
 *
 * Of most of them the product has a second line: what does not fit together stops it. Such a harm is events that are
 * numbered or sent no more (`missing`), or a stop for nothing (`open`), and not a wrong order.
 */
import { randomUUID } from "node:crypto";
import type { Log } from "../../../kafka/log.ts";
import type { Plan, Sequenced } from "../../../sequencer/plan.ts";
import type { SequencerOptions } from "../../../sequencer/sequencer.ts";
import { confirmBeforeKafka, stampAfterKafka } from "../../sequencer/broken-steps.ts";
import type { Fault } from "./faults/kinds.ts";

interface Broken extends Pick<SequencerOptions, "around"> {
  readonly log?: (log: Log) => Log;
  /** Faults that bring the harm about; a run strikes no others. */
  readonly shownBy: readonly Fault[];
}

/** So much of the progress is not read. */
const UNREAD = 40;
/** More would bring what is not to be read. */
const FEW_BYTES = 1 << 10;

export const VARIANTS: Readonly<Record<string, Broken>> = {
  "order-by-id": {
    shownBy: ["sequencer-kill"],
    around: (steps) => {
      const sorted = new WeakMap<Plan, Plan>();
      const byId = (plan: Plan): Plan => {
        const known = sorted.get(plan) ?? sortedById(plan);
        sorted.set(plan, known);
        return known;
      };
      return {
        ...steps,
        stamp: (plan) => steps.stamp(byId(plan)),
        send: (plan, stamped) => steps.send(byId(plan), stamped),
      };
    },
  },
  /** The slot has moved past what Kafka does not have: SlotMoved, for good. */
  "confirm-before-kafka": {
    ...{ around: confirmBeforeKafka, shownBy: ["commit: sequencer-kill", "commit: reset"] },
  },
  /** Kafka has what the database does not know of: OtherHistory, for good. */
  "stamp-after-kafka": {
    ...{ around: stampAfterKafka, shownBy: ["stamp: sequencer-kill", "stamp: reset"] },
  },
  /** Who was frozen commits in Kafka when it thaws, and the other one finds events there: ForeignWriter. */
  "no-fence": {
    shownBy: ["late-thaw"],
    log: (log) => around(log, (open) => (id) => open(`${id}.${randomUUID()}`)),
  },
  /** The end of the progress is passed over at the start: the slot, or the topic's end, is ahead of it. */
  "tail-not-read": {
    shownBy: ["sequencer-kill"],
    log: (log) => {
      const openReader = log.openReader.bind(log);
      log.openReader = (topic, partition) => {
        const reader = openReader(topic, partition);
        if (!topic.name.endsWith(".progress")) return reader;
        const fetch = reader.fetch.bind(reader);
        reader.fetch = (position, _maxBytes, maxWaitMs) => fetch(position, FEW_BYTES, maxWaitMs);
        return reader;
      };
      return around(log, (open) => async (id) => {
        const opened = await open(id);
        if (opened.kind !== "done") return opened;
        const { value: writer } = opened;
        const write = writer.write.bind(writer);
        let isFirst = true;
        writer.write = async (records, ready) => {
          const outcome = await write(records, ready);
          if (!isFirst || outcome.kind !== "committed") return outcome;
          isFirst = false;
          const positions = outcome.positions.map((position) => ({
            ...position,
            offset: Math.max(0, position.offset - UNREAD),
          }));
          return { ...outcome, positions };
        };
        return opened;
      });
    },
  },
};

type Opening = Log["openTransactionalWriter"];

function around(log: Log, open: (as: Opening) => Opening): Log {
  log.openTransactionalWriter = open(log.openTransactionalWriter.bind(log));
  return log;
}

/** Events of a topic have the numbers that they have together, in the order of their ids. */
function sortedById(plan: Plan): Plan {
  const ofTopic = (events: readonly Sequenced[]): Sequenced[] => {
    const ids = events.toSorted((a, b) => (a.event.id < b.event.id ? -1 : 1));
    const left = new Map<string, number[]>();
    for (const { topic, sequence } of events)
      left.set(topic.name, [...(left.get(topic.name) ?? []), sequence]);
    return ids.map((one) => ({ ...one, sequence: left.get(one.topic.name)?.shift() ?? 0 }));
  };
  return { ...plan, events: ofTopic(plan.events), toStamp: ofTopic(plan.toStamp) };
}
