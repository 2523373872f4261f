/** The judge, tested: it is content with a clean run, and finds each class in a run with that one fault. */
import { expect, test } from "@jest/globals";
import { CLASSES, type Class } from "./anomaly.ts";
import { behindTheEnd, cleanRun, detachedClaims, type Mutable } from "./generated-history.ts";
import { judge } from "./judge.ts";
import { MUTATIONS, OTHERWISE } from "./mutations.ts";

function classesOf({ world, histories }: Mutable): Class[] {
  return [...judge(world, [histories]).counts.keys()];
}

test("a clean run has no anomaly", () => {
  const run = cleanRun();
  const { examples, deliveries } = judge(run.world, [run.histories]);
  expect(examples).toEqual([]);
  expect(deliveries).toBeGreaterThan(200);
});

test("what was on its way when its topic went may have been in the log, unread", () => {
  const run = cleanRun();
  behindTheEnd(run);
  expect(classesOf(run)).toEqual([]);
});

test("what a stream delivers that was superseded by a detached one, and could not hear of it, is its own", () => {
  const run = cleanRun();
  const others = run.histories.filter(({ name }) => !name.startsWith("session-"));
  const histories = [...others, ...detachedClaims(run)];
  expect(judge(run.world, [histories]).examples).toEqual([]);
});

test.each(Object.keys(CLASSES) as Class[])("the judge finds exactly: %s", (name) => {
  const run = cleanRun();
  MUTATIONS[name](run);
  expect(classesOf(run)).toEqual([name]);
});

test.each(Object.keys(OTHERWISE))("the judge finds: %s", (name) => {
  const run = cleanRun();
  const [wanted, mutate] = OTHERWISE[name] as (typeof OTHERWISE)[string];
  mutate(run);
  expect(classesOf(run)).toEqual([wanted]);
});
