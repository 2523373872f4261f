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
  const external = { bytes: 0 };
  const memory = new ShortLivedMemory(clock.setTimer, collect, () => external.bytes);
  return { clock, asked, external, memory };
}

test("a minor collection per 8 MiB, a full one when it is calm for two seconds", async () => {
  const { clock, asked, memory } = bed();
  for (let i = 0; i < 20; i++) memory.allocated(MIB);
  clock.setTimer(1500, () => memory.allocated(8 * MIB));
  await clock.run(10_000);
  expect(asked).toEqual(["minor at 0", "minor at 0", "minor at 1500", "major at 4000"]);
});

test("P6: a full collection when 16 MiB are there beyond the fewest since the last one", () => {
  const { asked, external, memory } = bed();
  for (const mib of [100, 90, 100, 107, 107, 95, 110, 112]) {
    external.bytes = mib * MIB;
    memory.allocated(8 * MIB);
  }
  const minors = (count: number) => Array.from({ length: count }, () => "minor at 0");
  expect(asked).toEqual([...minors(4), "major at 0", ...minors(4), "major at 0"]);
});

test("little brings none, and none comes after the end", async () => {
  const { clock, asked, memory } = bed();
  memory.allocated(7 * MIB);
  await clock.run(10_000);
  expect(asked).toEqual([]);
  memory.allocated(MIB);
  memory.close();
  await clock.run(20_000);
  expect(asked).toEqual(["minor at 10000"]);
});

test("V8 gives its collector", () => {
  const memory = new ShortLivedMemory(() => () => {});
  expect(() => memory.allocated(8 * MIB)).not.toThrow();
});
