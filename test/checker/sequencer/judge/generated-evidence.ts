/** Evidence of a run in which all went well: the judge must be content with it, and mutations spoil one thing each. */
import { Random } from "../../../sim/random.ts";
import type { Deed, Evidence, Seen, Shown, Watched } from "./evidence.ts";
import type { Inserted, Stamped, Transaction } from "./word.ts";

type Writable<T> = {
  -readonly [K in keyof T]: T[K] extends readonly (infer One)[] ? Writable<One>[] : T[K];
};
export type Mutable = Writable<Evidence>;

const TOPICS = ["orders", "refunds"] as const;
const COMMITS = 60;
/** This commit is followed by a slot that is made anew. */
const SLOT_AFTER = 30;
const none = () => ({
  ...{ events: [], stamps: [], changed: [], cleaned: [], parked: [] },
  slotBegins: undefined,
});

/** A commit each 100 ms, its log record 50 long; ids are not in the order of commits. */
export function cleanRun(): Mutable {
  const random = new Random(5);
  const ids = Array.from({ length: 400 }, (_, i) => BigInt(i + 1));
  const word: Transaction[] = [];
  const stamped: (Stamped & Inserted & { readonly atMs: number })[] = [];
  const last = new Map<string, number>();
  let waiting: (Inserted & { readonly commitId: bigint })[] = [];
  let lsn = 1000n;
  const stamp = (slotBegins: bigint | undefined): void => {
    const inOrder =
      slotBegins === undefined ? waiting : waiting.toSorted((a, b) => (a.id < b.id ? -1 : 1));
    const atMs = Number(lsn);
    const stamps = inOrder.map((event) => {
      const sequence = (last.get(event.topic) ?? 0) + 1;
      last.set(event.topic, sequence);
      const commitId = slotBegins === undefined ? event.commitId : slotBegins - 1n;
      stamped.push({ ...event, eventId: event.id, sequence, commitId, atMs });
      return { eventId: event.id, sequence, commitId };
    });
    waiting = [];
    lsn += 100n;
    word.push({ ...none(), endLsn: lsn, atMs, stamps, slotBegins });
  };
  for (let i = 0; i < COMMITS; i++) {
    const events = Array.from({ length: random.int(1, 4) }, (): Inserted => {
      const [id = 0n] = ids.splice(random.int(0, 9), 1);
      const topic = TOPICS[random.int(0, 1)] as string;
      return { id, topic, content: `value-${id}|key|made` };
    });
    const commitId = lsn + 50n;
    lsn += 100n;
    word.push({ ...none(), endLsn: lsn, atMs: Number(lsn), events });
    waiting.push(...events.map((event) => ({ ...event, commitId })));
    if (i === SLOT_AFTER) stamp(lsn + 10n);
    else if (i < SLOT_AFTER - 5 || i > SLOT_AFTER) stamp(undefined);
  }
  const cleaned = stamped.slice(0, 10).map(({ eventId }) => eventId);
  word.push({ ...none(), endLsn: lsn + 100n, atMs: Number(lsn), cleaned });
  const seenBy = (by: string): Watched[] =>
    TOPICS.map((topic) => ({
      ...{ by, topic },
      events: stamped
        .filter((one) => one.topic === topic)
        .map(({ sequence, commitId, content, atMs }): Seen => {
          return { sequence, commitId, content, atMs: atMs + 20 };
        }),
    }));
  const shown: Shown[] = stamped
    .slice(10)
    .map(({ eventId, sequence, commitId }) => ({ eventId, sequence, commitId }));
  const deeds: Deed[] = [
    { fault: "sequencer-kill", target: "sequencer-1", fromMs: 2000, toMs: 2500 },
    {
      ...{ fault: "slot-dropped", target: "sequencer-1", fromMs: 4000, toMs: 5000 },
      stop: { wanted: "SlotMissing", said: "SlotMissing" },
    },
  ];
  const stops = [{ name: "sequencer-1", atMs: 4500, reason: "SlotMissing" }];
  const watched = [...seenBy("log"), ...seenBy("subscriber")];
  return { word, watched, shown, deeds, stops, crashes: [], ends: [] } as unknown as Mutable;
}
