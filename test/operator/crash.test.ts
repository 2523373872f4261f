/**
 * P9: an operator that is killed at any call of it, before it had its effect or after, and the next one: Kafka and
 * the catalog end as declared, also when a person has gone on meanwhile. Nothing is lost, doubled or left over.
 */
import { describe, expect, test } from "@jest/globals";
import type { AdminOutcome, FencedWriter, Log, LogAdmin } from "../../kafka/log.ts";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { allowedNames } from "../../operator/allowed-names.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { OtherDeployments } from "../../operator/other-deployments.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import { infoIn, owner, topic } from "./reconcile-bed.ts";

type When = "before" | "after";
/** What is declared, in turn. */
type Wish = { readonly spec: TopicSpec } | { readonly deleted: "Retain" | "Delete" };

interface Story {
  readonly name: string;
  readonly before?: (log: MemoryLog) => void;
  readonly wishes: readonly Wish[];
  /** Partitions of "shop.orders" in the end; undefined: it is not there. */
  readonly partitions: number | undefined;
  /** State of the record in the end; undefined: there is none. */
  readonly record: number | undefined;
}

const GROWN = { partitions: 3, config: { "flush.ms": "7" } };

const STORIES: readonly Story[] = [
  {
    ...{ name: "made, deleted", partitions: undefined, record: undefined },
    wishes: [{ spec: {} }, { deleted: "Delete" }],
  },
  {
    ...{ name: "made, changed, deleted", partitions: undefined, record: undefined },
    wishes: [{ spec: {} }, { spec: GROWN }, { deleted: "Delete" }],
  },
  {
    ...{ name: "made, changed, retained", partitions: 3, record: 3 },
    wishes: [{ spec: {} }, { spec: GROWN }, { deleted: "Retain" }],
  },
  {
    ...{ name: "made, deleted, made again", partitions: 2, record: 1 },
    wishes: [{ spec: {} }, { deleted: "Delete" }, { spec: { partitions: 2 } }],
  },
  {
    ...{ name: "made, retained, taken back", partitions: 2, record: 1 },
    wishes: [{ spec: {} }, { deleted: "Retain" }, { spec: { partitions: 2 } }],
  },
  {
    ...{ name: "adopted, deleted: it stays", partitions: 1, record: 3 },
    before: (log) => void log.createTopicNow("shop.orders", 1),
    wishes: [{ spec: {} }, { deleted: "Delete" }],
  },
];

/** The same log until the n-th call that an operator makes of it; then it is killed. */
function mortal(log: MemoryLog, dieAt: number, when: When) {
  let calls = 0;
  const life = { isOver: false };
  const call = async <T>(make: () => Promise<T>): Promise<T> => {
    if (life.isOver) throw new Error("killed");
    const isLast = ++calls === dieAt;
    if (isLast && when === "before") {
      life.isOver = true;
      throw new Error("killed");
    }
    const made = await make();
    if (!isLast) return made;
    life.isOver = true;
    throw new Error("killed");
  };
  const through = <T extends object>(of: T): T =>
    new Proxy(of, {
      get: (target, name) => {
        const value = Reflect.get(target, name, target);
        if (name === "admin") return through<LogAdmin>(log.admin);
        if (typeof value !== "function") return value;
        if (name === "openReader" || name === "close") return value.bind(target);
        return async (...given: unknown[]) => {
          const made: AdminOutcome<FencedWriter> = await call(() => value.apply(target, given));
          const isWriter = name === "openFencedWriter" && made.kind === "done";
          return isWriter ? { ...made, value: through(made.value) } : made;
        };
      },
    });
  return { log: through<Log>(log), life };
}

async function operator(log: Log): Promise<Reconciler> {
  const catalog = await CatalogWriter.open(log, "test", () => 1);
  const others = new OtherDeployments(log, "test");
  return new Reconciler(log, catalog, { others, allowed: allowedNames(["shop/*"]) });
}

async function fulfil(reconciler: Reconciler, wish: Wish): Promise<boolean> {
  if ("spec" in wish) return (await reconciler.apply(topic(wish.spec), owner)).ready;
  return (await reconciler.delete("shop/orders", wish.deleted)) === undefined;
}

/** @returns false when the operator lived through it all. */
async function play(story: Story, dieAt: number, when: When, skips: boolean): Promise<boolean> {
  const log = new MemoryLog();
  story.before?.(log);
  const first = mortal(log, dieAt, when);
  let reconciler = await operator(first.log).catch(() => undefined);
  const last = story.wishes.length - 1;
  for (let i = 0; i <= last; i++) {
    const isDone = reconciler && (await fulfil(reconciler, story.wishes[i] as Wish));
    if (isDone && !first.life.isOver) continue;
    expect(first.life.isOver).toBe(true);
    reconciler = await operator(log);
    // Deletions are waited for: a finalizer is on it. Other wishes a person may have changed meanwhile.
    if (skips && i < last && "spec" in (story.wishes[i] as Wish)) continue;
    expect(await fulfil(reconciler, story.wishes[i] as Wish)).toBe(true);
  }
  const next = await CatalogWriter.open(log, "test", () => 2);
  const info = await infoIn(log, "shop.orders");
  const record = next.records.get("shop/orders");
  const where = { story: story.name, dieAt, when, skips };
  const found = { partitions: info?.partitions, record: record?.state, begun: next.begun.size };
  // Of wishes that were given up for the next there may be less to keep; but what is there is whole.
  const isLess = skips && story.record === 3 && "deleted" in (story.wishes[last] as Wish);
  const { partitions, record: state } = isLess ? { ...found } : story;
  expect({ ...where, ...found }).toEqual({ ...where, partitions, record: state, begun: 0 });
  const isNobodys = record === undefined && story.before === undefined;
  const id = isNobodys ? undefined : (record?.topicId.toString("hex") ?? info?.id);
  expect({ ...where, id: info?.id }).toEqual({ ...where, id });
  if (record) expect([1, 3]).toContain(record.state);
  return first.life.isOver;
}

describe.each(STORIES)("$name", (story) => {
  test.each([
    ["before", false],
    ["before", true],
    ["after", false],
    ["after", true],
  ] as const)("killed %s each call in turn; gone on meanwhile: %s", async (when, skips) => {
    let calls = 1;
    while (await play(story, calls, when, skips)) calls++;
    expect(calls).toBeGreaterThan(12);
  });
});
