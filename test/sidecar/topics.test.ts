import { expect, test } from "@jest/globals";
import type { Catalog, CatalogTopic } from "../../sidecar/catalog.ts";
import type { Failure } from "../../sidecar/failure.ts";
import { listTopics, type Right, resolveTopic } from "../../sidecar/topics.ts";

function topic(name: string, over: Partial<CatalogTopic> = {}): CatalogTopic {
  return {
    name,
    namespace: name.split("/")[0] ?? "",
    kafkaTopic: name.replace("/", "."),
    topicId: `${"0".repeat(31)}1`,
    partitions: 3,
    ordering: "Key",
    state: "Ready",
    maxEventBytes: 1 << 20,
    publishNamespaces: [],
    subscribeNamespaces: [],
    ...over,
  };
}

const TOPICS = [
  topic("shop/orders", { subscribeNamespaces: ["billing"], publishNamespaces: ["web"] }),
  topic("shop/lost", { state: "DataLost" }),
  topic("shop/kept", { state: "Retained" }),
  topic("shop/secret"),
];
const catalog: Catalog = {
  get: (name) => TOPICS.find((known) => known.name === name),
  list: () => TOPICS,
  onChange: () => () => {},
};

function outcome(caller: string, requested: string, right: Right): string {
  try {
    return resolveTopic(catalog, caller, requested, right).name;
  } catch (error) {
    return (error as Failure).error;
  }
}

test.each<[caller: string, requested: string, right: Right, outcome: string]>([
  ["shop", "orders", "publish", "shop/orders"],
  ["shop", "shop/orders", "subscribe", "shop/orders"],
  ["billing", "shop/orders", "subscribe", "shop/orders"],
  ["billing", "shop/orders", "publish", "NOT_PERMITTED"],
  ["web", "shop/orders", "publish", "shop/orders"],
  ["web", "shop/orders", "subscribe", "NOT_PERMITTED"],
  ["other", "shop/orders", "subscribe", "NOT_PERMITTED"],
  ["billing", "orders", "subscribe", "TOPIC_NOT_FOUND"],
  ["shop", "nothing", "subscribe", "TOPIC_NOT_FOUND"],
  ["shop", "lost", "subscribe", "TOPIC_NOT_READY"],
  ["shop", "kept", "publish", "TOPIC_NOT_READY"],
  ["shop", "", "publish", "INVALID_REQUEST"],
  ["shop", "/orders", "publish", "INVALID_REQUEST"],
  ["shop", "shop/", "publish", "INVALID_REQUEST"],
  ["shop", "a/b/c", "publish", "INVALID_REQUEST"],
  ["shop", "Orders", "publish", "INVALID_REQUEST"],
  ["shop", "../orders", "publish", "INVALID_REQUEST"],
  ["shop", "_throughline.local.catalog", "subscribe", "INVALID_REQUEST"],
  ["shop", "x".repeat(100_000), "subscribe", "INVALID_REQUEST"],
])("P10: %s asks for %j to %s: %s", (caller, requested, right, expected) => {
  expect(outcome(caller, requested, right)).toBe(expected);
});

test("a list shows what the caller may use, by name, whatever its state", () => {
  expect(listTopics(catalog, "shop").map(({ name }) => name)).toEqual([
    ...["shop/kept", "shop/lost", "shop/orders", "shop/secret"],
  ]);
  expect(listTopics(catalog, "web").map(({ name }) => name)).toEqual(["shop/orders"]);
  expect(listTopics(catalog, "other")).toEqual([]);
});
