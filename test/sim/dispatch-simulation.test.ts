/**
 * P1, P2, P3, P6 of dispatching: the product's own dispatchers in virtual time, and the same with one
 * rule broken on purpose, which must be found.
 */
import { expect, test } from "@jest/globals";
import { type DispatchRules, RULES } from "../../sidecar/dispatch/rules.ts";
import { type Lease, SegmentMemory } from "../../sidecar/dispatch/segment-memory.ts";
import type { Tail } from "../../sidecar/dispatch/tail.ts";
import { type Counts, Harm, MEMORY_STEP_BYTES, World } from "./world.ts";

const FIRST_SEED = Number(process.env["SEED"] ?? 1);
const BATCHES = 22;

function zero(): Counts {
  return { delivered: 0, catchUps: 0, shared: 0, merges: 0, demotions: 0, queued: 0, takeovers: 0 };
}

async function harmOf(
  rules: DispatchRules,
  seeds: number,
  memory?: () => SegmentMemory,
): Promise<string> {
  for (let seed = FIRST_SEED; seed < FIRST_SEED + seeds; seed++) {
    try {
      await new World(seed, rules, zero(), memory).run(BATCHES);
    } catch (error) {
      // What is written over is no frame any more.
      if (error instanceof Harm || memory !== undefined) return (error as Error).message;
      throw error;
    }
  }
  return "no harm found";
}

test("a million events over thousands of interleavings arrive without gap, repeat, disorder or stuck client", async () => {
  const counts = zero();
  const started = performance.now();
  let seed = FIRST_SEED;
  for (; seed < FIRST_SEED + 2000 || counts.delivered < 1_000_000; seed++) {
    try {
      await new World(seed, RULES, counts).run(BATCHES);
    } catch (error) {
      throw new Error(`seed ${seed} (replay with SEED=${seed}): ${(error as Error).message}`);
    }
    if (process.env["SEED"]) break;
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(`${seed - FIRST_SEED} interleavings in ${seconds} s: ${JSON.stringify(counts)}`);
  for (const [name, count] of Object.entries(counts))
    expect([name, count > 0]).toEqual([name, true]);
}, 300_000);

test("a merge before the tail has reached the client's position is found as a gap", async () => {
  const broken = { ...RULES, mayMerge: (main: Tail) => main.length > 0, fellBehind: () => false };
  expect(await harmOf(broken, 200)).toMatch(/^gap/);
});

test("a merge that never happens is found as a stuck client", async () => {
  expect(await harmOf({ ...RULES, mayMerge: () => false }, 50)).toMatch(/^stuck/);
});

test("a demotion that does not happen is found as a gap", async () => {
  expect(await harmOf({ ...RULES, fellBehind: () => false }, 200)).toMatch(/^gap/);
});

test("a position that is not the client's own is found as a repeat", async () => {
  expect(await harmOf({ ...RULES, firstWanted: () => 0 }, 200)).toMatch(/^repeat/);
});

/** Lets memory go with the first of its holders. */
class Careless extends SegmentMemory {
  override take(bytes: number): Lease {
    const lease = super.take(bytes);
    let holders = 0;
    const { hold, release } = lease;
    lease.hold = () => {
      if (holders++ === 0) hold.call(lease);
    };
    lease.release = () => {
      if (holders > 0) release.call(lease);
      holders = 0;
    };
    return lease;
  }
}

test("memory of a segment that is used again before its frames are taken is found", async () => {
  const careless = (): SegmentMemory => new Careless({ stepBytes: MEMORY_STEP_BYTES });
  expect(await harmOf(RULES, 200, careless)).toMatch(/^(gap|repeat|.*bytes)/);
});
