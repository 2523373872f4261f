/** Where a sequencer begins, and what stops it (P8): each check can be seen to fail. */
import { describe, expect, test } from "@jest/globals";
import { decide, type Facts } from "../../sequencer/decide.ts";
import type { FailClosed } from "../../sequencer/fail-closed.ts";
import type { Plan } from "../../sequencer/plan.ts";
import { relayBatch, type Steps } from "../../sequencer/relay.ts";
import { switchPointIn } from "../../sequencer/slot.ts";
import { judgeTail } from "../../sequencer/topics.ts";

const record = {
  ...{ owner: "d/shop/orders", name: "s", systemId: "7", timeline: 1, consistentPoint: 100n },
  ...{ publication: "16400", outbox: "16390" },
};
const progress = {
  ...{ systemId: "7", timeline: 1, sent: { commitId: 200n, index: 3 }, confirmed: 210n },
  sequences: new Map([["a", 9]]),
};
const WHOLE: Facts = {
  ...{ owner: "d/shop/orders", slotName: "s", systemId: "7", timeline: 1 },
  ...{ publication: "16400", outbox: "16390", record, progress, safeLsn: 0n },
  switchPoint: undefined,
  slot: { isOurs: true, isLost: false, confirmed: 210n },
  lastValues: new Map([["a", 9]]),
};

function reasonOf(facts: Partial<Facts>): string {
  try {
    return decide({ ...WHOLE, ...facts }).kind;
  } catch (error) {
    return (error as FailClosed).reason;
  }
}

describe("a sequencer", () => {
  test("goes on where all fits together", () => {
    expect(decide(WHOLE)).toEqual({ kind: "resume", record });
    // Stamped and not sent; the slot confirmed for idle time; a slot that lags.
    expect(reasonOf({ lastValues: new Map([["a", 12]]) })).toBe("resume");
    const slot = { isOurs: true, isLost: false };
    expect(reasonOf({ slot: { ...slot, confirmed: 300n }, safeLsn: 300n })).toBe("resume");
    expect(reasonOf({ slot: { ...slot, confirmed: 100n } })).toBe("resume");
  });

  test("follows a promoted standby that has all that was sent", () => {
    expect(reasonOf({ timeline: 2, switchPoint: 201n })).toBe("resume");
    const history = "1\t0/30001A8\tno recovery target specified\n\n2\t0/4000000\tand so on\n";
    expect(switchPointIn(history, 1)).toBe(0x30001a8n);
    expect(switchPointIn(history, 2)).toBe(0x4000000n);
    expect(switchPointIn(history, 3)).toBeUndefined();
  });

  test("makes a slot where none was recorded, and drops one that was made and never used", () => {
    const none = { record: undefined, progress: undefined, lastValues: new Map() };
    expect(decide({ ...WHOLE, ...none, slot: undefined })).toEqual({
      ...{ kind: "make-slot", dropFirst: false },
    });
    expect(decide({ ...WHOLE, ...none })).toEqual({ kind: "make-slot", dropFirst: true });
    // Given up before, with all that was sent known.
    expect(reasonOf({ record: undefined, slot: undefined })).toBe("make-slot");
  });

  test.each<[string, Partial<Facts>]>([
    ["OtherOwner", { record: { ...record, owner: "d/shop/other" } }],
    ["OtherOwner", { record: undefined, slot: { isOurs: false, isLost: false, confirmed: 0n } }],
    ["OtherDatabase", { progress: { ...progress, systemId: "8" } }],
    [
      "OtherDatabase",
      { record: { ...record, systemId: "8" }, progress: undefined, lastValues: new Map() },
    ],
    ["OtherHistory", { lastValues: new Map([["a", 8]]) }],
    ["OtherHistory", { lastValues: new Map() }],
    ["OtherHistory", { timeline: 2 }],
    ["OtherHistory", { timeline: 2, switchPoint: 200n }],
    ["ProgressLost", { progress: undefined }],
    ["PublicationChanged", { publication: "1" }],
    ["PublicationChanged", { outbox: "1" }],
    ["SlotMissing", { slot: undefined }],
    ["SlotLost", { slot: { isOurs: true, isLost: true, confirmed: 0n } }],
    ["SlotLost", { slot: { isOurs: false, isLost: false, confirmed: 0n } }],
    ["SlotMoved", { slot: { isOurs: true, isLost: false, confirmed: 211n } }],
  ])("stops with %s", (reason, facts) => {
    expect(reasonOf(facts)).toBe(reason);
  });
});

test("the end of a topic in Kafka must be what was sent last", () => {
  const reason = (sequence: number | undefined, sent: number): string => {
    try {
      judgeTail("a", { offset: 4, sequence }, sent);
    } catch (error) {
      return (error as FailClosed).reason;
    }
    return "none";
  };
  expect(reason(9, 9)).toBe("none");
  expect(reason(8, 9)).toBe("LogCut");
  expect(reason(10, 9)).toBe("ForeignWriter");
  expect(reason(undefined, 9)).toBe("ForeignWriter");
  expect(() => judgeTail("a", undefined, 9)).not.toThrow();
});

describe("one batch", () => {
  const plan = {} as Plan;

  function steps(more: Partial<Steps> = {}): { said: string[]; steps: Steps } {
    const said: string[] = [];
    return {
      said,
      steps: {
        stamp: async () => void said.push("stamped"),
        send: async (_plan, stamped) => {
          said.push("produced");
          await stamped;
          said.push("committed");
        },
        confirm: () => void said.push("confirmed"),
        ...more,
      },
    };
  }

  test("is committed in Kafka after its stamps, and confirmed after that", async () => {
    let stamp = (): void => {};
    const bed = steps({
      stamp: () =>
        new Promise((resolve) => {
          stamp = () => {
            bed.said.push("stamped");
            resolve();
          };
        }),
    });
    const relaying = relayBatch(plan, bed.steps);
    await Promise.resolve();
    expect(bed.said).toEqual(["produced"]);
    stamp();
    await relaying;
    expect(bed.said).toEqual(["produced", "stamped", "committed", "confirmed"]);
  });

  test("that cannot be stamped is neither committed nor confirmed, and says why", async () => {
    const bed = steps({ stamp: () => Promise.reject(new Error("no room")) });
    await expect(relayBatch(plan, bed.steps)).rejects.toThrow("no room");
    expect(bed.said).toEqual(["produced"]);
  });

  test("that Kafka does not commit is not confirmed", async () => {
    const bed = steps({ send: () => Promise.reject(new Error("fenced")) });
    await expect(relayBatch(plan, bed.steps)).rejects.toThrow("fenced");
    expect(bed.said).toEqual(["stamped"]);
  });
});
