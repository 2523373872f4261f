import { expect, test } from "@jest/globals";
import { Refused } from "../../operator/kafka-outcome.ts";
import type { TopicResource } from "../../operator/validate.ts";
import { WithoutCatalog } from "../../operator/without-catalog.ts";

const TOPIC: TopicResource = { metadata: { name: "orders", namespace: "shop" }, spec: {} };
const OWNER = { uid: "1", generation: 1, clusterUid: "" };
const AWAY = "Kafka: nobody answers at 127.0.0.1:1.";

test("a Topic says that Kafka is away, or why the catalog cannot be written, as the last attempt found it", async () => {
  const without = new WithoutCatalog(new Refused("KafkaUnavailable", AWAY));
  expect(await without.apply(TOPIC, OWNER)).toMatchObject({
    ...{ ready: false, reason: "KafkaUnavailable", message: AWAY },
  });
  without.failedAgain(new Error("The catalog is of another cluster."));
  expect(await without.apply(TOPIC, OWNER)).toMatchObject({
    ...{
      ready: false,
      reason: "CatalogUnavailable",
      message: "The catalog is of another cluster.",
    },
  });
  expect(await without.delete()).toEqual({
    ...{ reason: "CatalogUnavailable", message: "The catalog is of another cluster." },
  });
});
