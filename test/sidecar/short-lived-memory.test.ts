/** When collections are asked for; what they bring is a benchmark's to show. */
import { expect, test } from "@jest/globals";
import { type Collect, ShortLivedMemory } from "../../sidecar/short-lived-memory.ts";
import { Random } from "../sim/random.ts";
import { VirtualClock } from "../sim/virtual-clock.ts";

const MIB = 1 << 20;

function bed() {
  const clock = new VirtualClock(new Random(1));
  const asked: string[] = [];
  const collect: Collect = ({ type }) => asked.push(`${type} at ${clock.now()}`);
  return { clock, asked, memory: new ShortLivedMemory(clock.setTimer, collect) };
}

test("a minor collection per 16 MiB, a full one when it is calm for two seconds", async () => {
  const { clock, asked, memory } = bed();
  for (let i = 0; i < 40; i++) memory.allocated(MIB);
  clock.setTimer(1500, () => memory.allocated(16 * MIB));
  await clock.run(10_000);
  expect(asked).toEqual(["minor at 0", "minor at 0", "minor at 1500", "major at 4000"]);
});

test("little brings none, and none comes after the end", async () => {
  const { clock, asked, memory } = bed();
  memory.allocated(15 * MIB);
  await clock.run(10_000);
  expect(asked).toEqual([]);
  memory.allocated(MIB);
  memory.close();
  await clock.run(20_000);
  expect(asked).toEqual(["minor at 10000"]);
});

test("V8 gives its collector", () => {
  const memory = new ShortLivedMemory(() => () => {});
  expect(() => memory.allocated(16 * MIB)).not.toThrow();
});
