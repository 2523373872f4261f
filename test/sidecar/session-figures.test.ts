import { expect, test } from "@jest/globals";
import type { CatalogTopic } from "../../sidecar/catalog.ts";
import { type FiguredSession, sessionFigures } from "../../sidecar/sessions/session-figures.ts";
import { encodeToken } from "../../sidecar/token.ts";

const TOPIC: CatalogTopic = {
  ...{ name: "shop/orders", namespace: "shop", kafkaTopic: "shop.orders", topicId: "a".repeat(32) },
  ...{ partitions: 3, ordering: "Key", state: "Ready", maxEventBytes: 1 },
  ...{ publishNamespaces: [], subscribeNamespaces: [] },
};
const ENDS = [10, 20, 30];

function session(name: string, offsets: number[], more: Partial<FiguredSession> = {}) {
  const { topicId } = TOPIC;
  const identity = { deploymentId: "d", topic: TOPIC.name, topicId };
  const positions = offsets.map((offset) => ({ offset, epoch: 0 }));
  return {
    key: { deploymentId: "d", caller: "shop", topic: TOPIC.name, session: name },
    ...{ topicId, savedToken: encodeToken(identity, positions), isUnverified: false },
    ...{ has: () => true, ...more },
  };
}

function figures(held: readonly FiguredSession[], ends: readonly number[] = ENDS) {
  return sessionFigures(held, { get: () => TOPIC }, (_id, partition) => ends[partition] ?? -1);
}

test("lag is summed over sessions, and the largest is told", () => {
  const held = [session("one", [10, 20, 25]), session("two", [0, 0, 0], { isUnverified: true })];
  expect(figures(held)).toEqual({ held: 2, unverified: 1, lag: 65, maxLag: 60 });
});

test("members of a shared session are one session, and each counts the partitions that it has", () => {
  const members = [
    session("one", [8, 15, 25], { has: (partition) => partition === 0 }),
    session("one", [8, 15, 25], { has: (partition) => partition === 2, isUnverified: true }),
  ];
  // Partition 1 is another server's, which knows its end.
  expect(figures(members, [10, -1, 30])).toEqual({ held: 1, unverified: 1, lag: 7, maxLag: 7 });
});
