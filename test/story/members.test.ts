/**
 * Shared sessions between three real servers, a real Kafka and a real store: members join, leave, crash, are
 * frozen and thaw, and kafkajs is the witness. P2, P3, P5.
 */
import { credentials } from "@grpc/grpc-js";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { ThroughlineClient } from "../../client/client.ts";
import { ThroughlineError } from "../../client/errors.ts";
import type { EmbeddedStore } from "../../local/embedded-store.ts";
import { ThroughlineServiceClient } from "../../proto/gen/throughline/v1/throughline.ts";
import { Bed, Load, SLOW_MS } from "./bed.ts";
import type { StoryServer } from "./story-server.ts";
import { EARLIEST } from "./subscriber.ts";
import { until, Waits } from "./waits.ts";

/** Above the silence that the client library bears: what was on its way when a server froze it does not take. */
const LAPSE = ["--member-lapse-ms", "6000", "--member-return-ms", "1000"];
const PARTITIONS = 6;

let bed: Bed;
let store: EmbeddedStore;

beforeAll(async () => {
  bed = await Bed.open();
  store = await bed.store();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

function serverOf(topic: string, ...flags: string[]): Promise<StoryServer> {
  return bed.server([topic], "--session-store", store.url, ...LAPSE, ...flags);
}

interface Had {
  readonly by: string;
  readonly partition: number;
  readonly offset: number;
  readonly marked: boolean;
}

/** What all members of one session had, in the order in which it came. */
class Group {
  readonly had: Had[] = [];
  readonly waits = new Waits();
  readonly topic: string;
  readonly members: Member[] = [];

  constructor(topic: string) {
    this.topic = topic;
  }

  member(name: string, ...servers: StoryServer[]): Member {
    const member = new Member(
      this,
      name,
      servers.map(({ address }) => address),
    );
    this.members.push(member);
    bed.onClose(() => member.crash());
    return member;
  }

  /** Every partition goes on: each has so many events more. */
  async goesOn(count = 20): Promise<void> {
    const from = this.had.length;
    const has = (): boolean => {
      const counts = new Array<number>(PARTITIONS).fill(0);
      for (let i = from; i < this.had.length; i++)
        counts[this.had[i]?.partition ?? 0] = (counts[this.had[i]?.partition ?? 0] ?? 0) + 1;
      return counts.every((n) => n >= count);
    };
    await this.waits.until(has, () => this.members.find(({ failure }) => failure)?.failure);
  }

  /** Resolves when the store says that this many are members. */
  async counts(members: number, { address }: StoryServer): Promise<void> {
    const stub = new ThroughlineServiceClient(address, credentials.createInsecure());
    const counted = (): Promise<number> =>
      new Promise((resolve) =>
        stub.getSession({ topic: this.topic, session: "group" }, (_error, answer) =>
          resolve(answer?.members.length ?? -1),
        ),
      );
    await until(async () => (await counted()) === members);
    stub.close();
  }

  /** Every event of the log came; of the times it came all but the first were marked, whoever had it. */
  judge(log: readonly { partition: number; offset: number }[]) {
    const first = new Map<string, Had>();
    const last = new Map<string, number>();
    const unmarked: { readonly first: Had; readonly again: Had }[] = [];
    const backward: Had[] = [];
    for (const one of this.had) {
      const event = `${one.partition}/${one.offset}`;
      const before = first.get(event);
      if (before === undefined) first.set(event, one);
      else if (!one.marked) unmarked.push({ first: before, again: one });
      const own = `${one.by}/${one.partition}`;
      if (one.offset <= (last.get(own) ?? -1) && !one.marked) backward.push(one);
      last.set(own, one.offset);
    }
    const missing = log.filter(({ partition, offset }) => !first.has(`${partition}/${offset}`));
    return { missing, unmarked, backward };
  }
}

class Member {
  failure: Error | undefined;
  readonly #client: ThroughlineClient;
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;
  #leaves = false;

  constructor(group: Group, name: string, addresses: readonly string[]) {
    this.#client = new ThroughlineClient(addresses);
    this.#running = this.#run(group, name).catch((error) => {
      if (!(error instanceof ThroughlineError)) throw error;
      this.failure = error;
      group.waits.changed();
    });
  }

  /** Ends in order, with the next batch. */
  async leave(): Promise<void> {
    this.#leaves = true;
    await this.#running;
  }

  /** Breaks off with what it has just taken not acknowledged. */
  async crash(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    this.#client.close();
  }

  async #run({ had, topic, waits }: Group, by: string): Promise<void> {
    const session = { name: "group", mode: "shared" } as const;
    const options = { topic, start: EARLIEST, session, creditEvents: 200 };
    const { signal } = this.#abort;
    for await (const batch of this.#client.subscribe({ ...options, signal })) {
      const { partition, maybeRedelivered: marked } = batch;
      for (const { offset } of batch.events)
        had.push({ by, partition, offset: Number(offset), marked });
      waits.changed();
      if (!this.#leaves) continue;
      batch.ack();
      break;
    }
    this.#client.close();
  }
}

test(
  "P2 P3 P5: members join, leave, crash, lose their server, freeze and thaw: nothing is missing, what repeats is marked",
  async () => {
    const topic = await bed.topic("group", { partitions: PARTITIONS });
    const load = new Load((from, count) => bed.append(topic, from, count));
    const a = await serverOf("group");
    let b = await serverOf("group");
    const c = await serverOf("group");
    const group = new Group("group");
    const one = group.member("one", a, b, c);
    await group.goesOn();
    const two = group.member("two", b, c, a);
    const three = group.member("three", c);
    await group.counts(3, a);
    await group.goesOn();
    // More members than partitions.
    const more = [4, 5, 6, 7, 8].map((n) => group.member(`m${n}`, a, b, c));
    await group.counts(8, a);
    await group.goesOn();
    for (const member of more) await member.leave();
    await group.counts(3, a);
    await group.goesOn();
    await two.crash();
    await group.counts(2, a);
    await group.goesOn();
    const four = group.member("four", b, a);
    await group.counts(3, a);
    await group.goesOn();
    // Their members go on elsewhere, one told before, one not.
    const d = await serverOf("group");
    const five = group.member("five", d, a);
    await group.counts(4, a);
    await group.goesOn();
    d.signal("SIGTERM");
    expect(await d.ended).toBe(0);
    await group.goesOn();
    await five.leave();
    await group.counts(3, a);
    await b.kill();
    await group.goesOn();
    b = await serverOf("group");
    const before = group.had.length;
    c.signal("SIGSTOP");
    await group.counts(2, a);
    await group.goesOn();
    const frozen = group.had.slice(before).filter(({ by }) => by === "three").length;
    c.signal("SIGCONT");
    await group.counts(3, a);
    await group.goesOn();
    expect(group.had.slice(before).filter(({ by }) => by === "three").length).toBeGreaterThan(
      frozen,
    );
    await load.stop();
    const log = await bed.read(topic);
    await group.waits.until(() => group.judge(log).missing.length === 0);
    expect(group.judge(log)).toEqual({ missing: [], unmarked: [], backward: [] });
    expect(group.had.some(({ marked }) => marked)).toBe(true);
    for (const member of [one, three, four]) {
      expect(member.failure).toBeUndefined();
      await member.crash();
    }
  },
  SLOW_MS,
);
