/** What the README shows in Python is true: plain generated stubs, a named session, a lost server. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { EmbeddedStore } from "../../local/embedded-store.ts";
import { Bed, Load, SLOW_MS } from "./bed.ts";
import { PythonClient } from "./python-client.ts";

let bed: Bed;
let store: EmbeddedStore;

beforeAll(async () => {
  bed = await Bed.open();
  store = await bed.store();
}, SLOW_MS);

afterAll(() => bed?.close(), SLOW_MS);

test(
  "the README's Python client goes on by its session after SIGKILL of its server, and stops when it is superseded",
  async () => {
    const topic = await bed.topic("python", { partitions: 1 });
    const flags = ["--session-store", store.url];
    const a = await bed.server(["python"], ...flags);
    const b = await bed.server(["python"], ...flags);
    const load = new Load((from, count) => bed.append(topic, from, count));
    const folder = join(bed.folder, "python");
    const addresses = [a.address, b.address];
    const first = await PythonClient.start(folder, "python", "billing", addresses);
    bed.onClose(() => first.kill());
    await first.has(500);
    await a.kill();
    await first.has(first.seen.length + 500);
    const second = await PythonClient.start(folder, "python", "billing", [b.address]);
    bed.onClose(() => second.kill());
    expect(await first.fails()).toContain("SUPERSEDED");
    await load.stop();
    const log = await bed.read(topic);
    const last = String(log.at(-1)?.value);
    while (second.seen.at(-1) !== last) await second.has(second.seen.length + 1);
    // Together they have all, in order; what came twice is what was not acknowledged at a loss.
    const both = [...first.seen, ...second.seen].map(Number);
    expect(new Set(both).size).toBe(log.length);
    const steps = both.slice(1).map((n, i) => n - (both[i] as number));
    expect(steps.filter((step) => step > 1)).toEqual([]);
    expect(steps.filter((step) => step < 1).length).toBeLessThanOrEqual(2);
  },
  SLOW_MS,
);
