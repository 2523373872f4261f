/** The mirror in virtual time, on the log and the store in memory. */
import { expect, test } from "@jest/globals";
import type { AdminOutcome } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { MemoryStore, type Trouble } from "../../sidecar/sessions/memory-store.ts";
import { type MirroredHold, SessionMirror } from "../../sidecar/sessions/mirror.ts";
import { mirrorGroup } from "../../sidecar/sessions/mirror-group.ts";
import type { Fence, SessionKey } from "../../sidecar/sessions/session-store.ts";
import { encodeToken } from "../../sidecar/token.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";

const EVERY_MS = 5000;
const HALF_A_MINUTE_MS = 30_000;
const HOUR_MS = 3_600_000;
const HOLDER = { instance: "one", attempt: 1, server: "A" };

type Writable<T> = { -readonly [K in keyof T]: T[K] };
type Hold = Writable<MirroredHold>;

class Bed {
  readonly clock = new VirtualClock(new Random(1));
  readonly log = new MemoryLog();
  readonly topic = this.log.createTopicNow("shop.orders", 2);
  trouble: Trouble | undefined;
  readonly store = new MemoryStore({
    now: () => this.clock.now(),
    gate: async () => this.trouble,
  });
  /** `<session> <offsets>`, or `<session> deleted`, in the order of the calls. */
  readonly asked: string[] = [];
  readonly said: string[] = [];
  readonly counted = { done: 0, failed: 0 };
  /** Judges a call before the twin does it. */
  before: (session: string) => Promise<AdminOutcome<void> | undefined> = async () => undefined;
  topicId = this.topic.id;
  readonly mirror: SessionMirror;

  constructor() {
    const ask = async (group: string, what: string, act: () => Promise<AdminOutcome<void>>) => {
      const session = group.slice(group.lastIndexOf(".") + 1);
      this.asked.push(`${session} ${what}`);
      return (await this.before(session)) ?? act();
    };
    this.mirror = new SessionMirror({
      groups: {
        commit: (group, topic, positions) =>
          ask(group, positions.map(({ offset }) => offset).join(), () =>
            this.log.groups.commit(group, topic, positions),
          ),
        delete: (group) => ask(group, "deleted", () => this.log.groups.delete(group)),
      },
      store: this.store,
      catalog: {
        get: () => ({
          ...{ name: "shop/orders", namespace: "shop", kafkaTopic: "shop.orders", partitions: 2 },
          ...{ topicId: this.topicId, ordering: "Key", state: "Ready", maxEventBytes: 1 },
          ...{ publishNamespaces: [], subscribeNamespaces: [] },
        }),
      },
      clock: this.clock,
      logger: {
        warn: (_of: unknown, message: string) => void this.said.push(message),
        info: (message: string) => void this.said.push(message),
      } as never,
      metrics: { sessionMirrored: (isDone) => void this.counted[isDone ? "done" : "failed"]++ },
      everyMs: EVERY_MS,
    });
  }

  token(...offsets: number[]): Buffer {
    const identity = { deploymentId: "test", topic: "shop/orders", topicId: this.topic.id };
    return encodeToken(
      identity,
      offsets.map((offset) => ({ offset, epoch: 0 })),
    );
  }

  hold(session: string, ...offsets: number[]): Hold {
    const fence: Fence = { generation: 1, claimId: "c", seeks: 0 };
    const savedToken = offsets.length > 0 ? this.token(...offsets) : Buffer.alloc(0);
    const hold = { key: key(session), topicId: this.topic.id, fence, savedToken };
    this.mirror.held(hold);
    return hold;
  }

  /** Claims the session and leaves it at these offsets in the store. */
  async stored(session: string, ...offsets: number[]): Promise<void> {
    const topicId = this.topic.id;
    const reposition = this.token(...offsets);
    const claim = { claimId: session, topicId, holder: HOLDER, reposition };
    const outcome = await this.store.claim(key(session), claim);
    if (outcome.kind !== "claimed") throw new Error(outcome.kind);
  }

  /** To just after the beat so many beats from now. */
  async beats(count = 1): Promise<string[]> {
    const from = this.asked.length;
    await this.clock.run(this.clock.now() + count * EVERY_MS);
    return this.asked.slice(from);
  }

  offsets(session: string): readonly number[] | undefined {
    return this.log.groups.committed(mirrorGroup(key(session)), "shop.orders");
  }
}

function key(session: string): SessionKey {
  return { deploymentId: "test", caller: "shop", topic: "shop/orders", session };
}

function down(): AdminOutcome<void> {
  return { kind: "unavailable", reason: "down" };
}

test("a saved position is shown at the next beat, and again only when it has changed", async () => {
  const bed = new Bed();
  const hold = bed.hold("s", 3, 4);
  await bed.clock.run(EVERY_MS - 1);
  expect(bed.asked).toEqual([]);
  expect(await bed.beats()).toEqual(["s 3,4"]);
  expect(bed.offsets("s")).toEqual([3, 4]);
  // The same position in other bytes of memory is no change.
  hold.savedToken = bed.token(3, 4);
  expect(await bed.beats(5)).toEqual([]);
  hold.savedToken = bed.token(5, 4);
  expect(await bed.beats(5)).toEqual(["s 5,4"]);
  expect(bed.counted).toEqual({ done: 2, failed: 0 });
});

test("nothing is shown of a session that was never saved, is not held, or counts in another topic id", async () => {
  const bed = new Bed();
  bed.hold("new");
  const lost = bed.hold("lost", 1, 1);
  lost.fence = undefined;
  const hold = bed.hold("s", 1, 1);
  bed.topicId = "f".repeat(32);
  expect(await bed.beats(3)).toEqual([]);
  bed.topicId = bed.topic.id;
  expect(await bed.beats()).toEqual(["s 1,1"]);
  expect(hold.fence).toBeDefined();
});

test("a session that is lost while it waits for its turn is not shown; those without a hold take no turn", async () => {
  const bed = new Bed();
  const lost = Array.from({ length: 1000 }, (_, i) => bed.hold(`lost${i}`, 1, 1));
  for (const hold of lost) hold.fence = undefined;
  const holds = Array.from({ length: 6 }, (_, i) => bed.hold(`s${i}`, 1, 1));
  bed.before = async () => {
    (holds[5] as Hold).fence = undefined;
    return undefined;
  };
  expect(await bed.beats()).toEqual(["s0 1,1", "s1 1,1", "s2 1,1", "s3 1,1", "s4 1,1"]);
});

test("partitions that the token does not name yet are shown at their beginning", async () => {
  const bed = new Bed();
  bed.hold("s", 7);
  expect(await bed.beats()).toEqual(["s 7,0"]);
});

test("it is shown once more after half a minute, when what was held up on its way has overwritten it", async () => {
  const bed = new Bed();
  bed.hold("s", 2, 2);
  await bed.beats();
  await bed.log.groups.commit(mirrorGroup(key("s")), "shop.orders", [
    { offset: 1, epoch: 0 },
    { offset: 1, epoch: 0 },
  ]);
  expect(await bed.beats(HALF_A_MINUTE_MS / EVERY_MS - 1)).toEqual([]);
  expect(await bed.beats()).toEqual(["s 2,2"]);
  expect(bed.offsets("s")).toEqual([2, 2]);
});

test("every hour it is shown again: Kafka forgets", async () => {
  const bed = new Bed();
  bed.hold("s", 1, 1);
  await bed.beats(1 + HALF_A_MINUTE_MS / EVERY_MS);
  for (let hour = 0; hour < 2; hour++) {
    expect(await bed.beats(HOUR_MS / EVERY_MS - 1)).toEqual([]);
    expect(await bed.beats(1)).toEqual(["s 1,1"]);
  }
});

test("a beat has a bound; who waited longest comes first, so each of thousands has its turn", async () => {
  const bed = new Bed();
  const holds = Array.from({ length: 2500 }, (_, i) => bed.hold(`s${i}`, 1, 1));
  const turns: string[][] = [];
  for (let beat = 2; beat <= 6; beat++) {
    turns.push(await bed.beats());
    for (const hold of holds) hold.savedToken = bed.token(beat, 1);
  }
  expect(turns.map(({ length }) => length)).toEqual([1000, 1000, 1000, 1000, 1000]);
  const counts = new Map<string, number>();
  for (const line of turns.flat()) {
    const session = line.split(" ")[0] as string;
    counts.set(session, (counts.get(session) ?? 0) + 1);
  }
  expect([...counts.values()].every((count) => count === 2)).toBe(true);
  expect(counts.size).toBe(2500);
});

test("an outage costs a few requests per beat, is told once and its end once, and nothing is lost", async () => {
  const bed = new Bed();
  for (let i = 0; i < 100; i++) bed.hold(`s${i}`, 1, 1);
  bed.log.fail("down");
  expect((await bed.beats()).length).toBe(4);
  await bed.beats(3);
  expect(bed.said).toEqual(["positions of sessions cannot be shown as group offsets"]);
  bed.log.heal();
  expect((await bed.beats()).length).toBe(100);
  expect(bed.said.slice(1)).toEqual(["positions of sessions are shown as group offsets again"]);
  expect(bed.offsets("s99")).toEqual([1, 1]);
  expect(bed.counted).toEqual({ done: 100, failed: 16 });
});

test("where a part of the groups fails, the others have their turns", async () => {
  const bed = new Bed();
  for (let i = 0; i < 30; i++) bed.hold(`s${i}`, 1, 1);
  bed.before = async (session) => (Number(session.slice(1)) < 15 ? down() : undefined);
  await bed.beats(8);
  const shown = Array.from({ length: 30 }, (_, i) => bed.offsets(`s${i}`) !== undefined);
  expect(shown).toEqual(Array.from({ length: 30 }, (_, i) => i >= 15));
});

test("a group that is refused stops no other, and is tried again", async () => {
  const bed = new Bed();
  for (const session of ["a", "b", "c", "d", "e", "f"]) bed.hold(session, 1, 1);
  const refused = { kind: "refused", error: "UNKNOWN_MEMBER_ID", reason: "members" } as const;
  bed.before = async (session) => (session < "f" ? refused : undefined);
  expect((await bed.beats()).length).toBe(6);
  expect(bed.offsets("f")).toEqual([1, 1]);
  expect(await bed.beats()).toHaveLength(5);
  bed.before = async () => undefined;
  await bed.beats();
  expect(bed.offsets("a")).toEqual([1, 1]);
});

test("a beat that takes long delays the next one; two never overlap", async () => {
  const bed = new Bed();
  const hold = bed.hold("s", 1, 1);
  let answer = (): void => {};
  bed.before = () =>
    new Promise((resolve) => {
      answer = () => resolve(undefined);
    });
  await bed.beats();
  hold.savedToken = bed.token(2, 2);
  expect(await bed.beats(5)).toEqual([]);
  answer();
  expect(await bed.beats(1)).toEqual(["s 2,2"]);
});

test("a session that was left is shown as the store has it, which another server may have moved on", async () => {
  const bed = new Bed();
  const hold = bed.hold("s", 1, 1);
  await bed.beats();
  hold.savedToken = bed.token(2, 2);
  await bed.stored("s", 8, 8);
  hold.fence = undefined;
  bed.mirror.left(hold);
  expect(await bed.beats()).toEqual(["s 8,8"]);
  expect(await bed.beats(5)).toEqual([]);
});

test("a shared session that was left, sought or forgotten is shown whole as the store has it", async () => {
  const bed = new Bed();
  const start = [
    { offset: 7, epoch: 0 },
    { offset: 8, epoch: 0 },
  ];
  const join = {
    ...{ id: "m", topicId: bed.topic.id, instance: "one", attempt: 1, server: "A", start },
    ...{ partitions: 2, lapseMs: HOUR_MS, revokeMs: 1 },
  };
  expect((await bed.store.join(key("s"), join)).kind).toBe("joined");
  bed.mirror.left(bed.hold("s", 1, 1));
  expect(await bed.beats()).toEqual(["s 7,8"]);
  const positions = [{ offset: 2, epoch: -1 }];
  await bed.store.seek(key("s"), { topicId: bed.topic.id, position: bed.token(2, 0), positions });
  bed.mirror.changed(key("s"));
  expect(await bed.beats()).toEqual(["s 2,0"]);
  await bed.store.forget(key("s"));
  bed.mirror.changed(key("s"));
  expect(await bed.beats()).toEqual(["s deleted"]);
});

test("a store that is down, or has lost the session, says nothing: what is shown stays", async () => {
  const bed = new Bed();
  const holds = [bed.hold("kept", 1, 1), bed.hold("lost", 1, 1)];
  await bed.beats();
  await bed.stored("kept", 4, 4);
  bed.trouble = { reason: "down", isDone: false };
  for (const hold of holds) bed.mirror.left(hold);
  expect(await bed.beats(3)).toEqual([]);
  bed.trouble = undefined;
  expect(await bed.beats()).toEqual(["kept 4,4"]);
  expect(bed.offsets("lost")).toEqual([1, 1]);
});

test("the group of a forgotten session is deleted, once no holder can make it again", async () => {
  const bed = new Bed();
  bed.hold("s", 1, 1);
  await bed.stored("s", 1, 1);
  await bed.clock.run(EVERY_MS * 2 - 1000);
  await bed.store.forget(key("s"));
  bed.mirror.changed(key("s"));
  expect(await bed.beats(0.4)).toEqual([]);
  expect(await bed.beats()).toEqual(["s deleted"]);
  expect(bed.log.groups.names).toEqual([]);
});

test("a forgotten session that was made again meanwhile keeps its group; one without a group is no failure", async () => {
  const bed = new Bed();
  for (const session of ["again", "never"]) {
    await bed.stored(session, 1, 1);
    await bed.store.forget(key(session));
    bed.mirror.changed(key(session));
  }
  await bed.stored("again", 6, 6);
  expect(await bed.beats()).toEqual(["again 6,6", "never deleted"]);
  expect(await bed.beats(3)).toEqual([]);
  expect(bed.said).toEqual([]);
});

test("a session that nobody holds is shown where it was sought to", async () => {
  const bed = new Bed();
  await bed.stored("s", 5, 5);
  await bed.store.seek(key("s"), {
    topicId: bed.topic.id,
    position: bed.token(2, 0),
    positions: [
      { offset: 2, epoch: -1 },
      { offset: 0, epoch: -1 },
    ],
  });
  bed.mirror.changed(key("s"));
  expect(await bed.beats()).toEqual(["s 2,0"]);
});

test("a server that stops shows what its sessions were left with, and waits 2 s for Kafka, no more", async () => {
  const bed = new Bed();
  await bed.stored("s", 9, 9);
  bed.mirror.left(bed.hold("s", 1, 1));
  let isClosed = false;
  void bed.mirror.close().then(() => {
    isClosed = true;
  });
  await bed.clock.run(0);
  expect([isClosed, bed.offsets("s")]).toEqual([true, [9, 9]]);
  bed.hold("late", 1, 1);
  expect(await bed.beats(5)).toEqual([]);

  const stuck = new Bed();
  await stuck.stored("s", 9, 9);
  stuck.mirror.left(stuck.hold("s", 1, 1));
  stuck.before = () => new Promise(() => {});
  let isOver = false;
  void stuck.mirror.close().then(() => {
    isOver = true;
  });
  await stuck.clock.run(1999);
  expect(isOver).toBe(false);
  await stuck.clock.run(2000);
  expect(isOver).toBe(true);
});

test("groups are named so that a dot divides and no two sessions share one", () => {
  const group = (caller: string, topic: string, session: string): string =>
    mirrorGroup({ deploymentId: "d-1", caller, topic, session });
  expect(group("shop", "shop/orders", "billing")).toBe("_throughline.d-1.shop.orders.billing");
  expect(group("shop", "shop/eu.orders", "a.b/c %ü*~_-")).toBe(
    "_throughline.d-1.shop.eu%2Eorders.a%2Eb%2Fc%20%25%C3%BC%2A~_-",
  );
  // Another namespace's Topic, and another namespace's session of the same name.
  expect(group("shop", "bank/orders", "s")).toBe("_throughline.d-1.shop.bank%2Forders.s");
  expect(group("bank", "bank/orders", "s")).toBe("_throughline.d-1.bank.orders.s");
});
