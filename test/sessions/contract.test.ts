/** The same promises (P5) of the store in memory and of a real Redis. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe } from "@jest/globals";
import { type EmbeddedStore, startStore } from "../../local/embedded-store.ts";
import { MemoryStore } from "../../sidecar/sessions/memory-store.ts";
import { type Driver, essentialCases } from "./cases.ts";
import { decisionCases } from "./decisions.ts";
import { lostCases } from "./lost.ts";
import { membershipCases } from "./memberships.ts";
import { DAY_MS, openPlain, openStore, type Plain, plainDeeds, SLOW_MS } from "./real-store.ts";

describe("in memory", () => {
  let nowMs = 1_700_000_000_000;
  const store = new MemoryStore({ now: () => ++nowMs });
  const driver: Driver = {
    store,
    other: store,
    empty: async () => store.empty(),
    spoil: async (key, as) => store.spoil(key, as),
    raw: async () => undefined,
    isGoneInADay: async (key) => {
      nowMs += DAY_MS;
      const state = await store.read(key);
      return state.kind === "none" && state.forgotten === undefined;
    },
  };
  essentialCases(() => driver);
  decisionCases(() => driver);
  membershipCases(() => driver);
  lostCases(() => driver);
});

describe("in Redis", () => {
  let directory: string;
  let redis: EmbeddedStore;
  let plain: Plain;
  let driver: Driver;
  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "throughline-sessions-"));
    redis = await startStore({ directory });
    plain = await openPlain(redis.port);
    driver = {
      store: openStore(redis.port),
      other: openStore(redis.port),
      ...plainDeeds(plain.ask),
    };
  }, SLOW_MS);
  afterAll(async () => {
    await driver?.store.close();
    await driver?.other.close();
    plain?.close();
    await redis?.stop();
    await rm(directory, { recursive: true, force: true });
  }, SLOW_MS);
  essentialCases(() => driver);
  decisionCases(() => driver);
  membershipCases(() => driver);
  lostCases(() => driver);
});
