/** Test files share one Kafka: none of them makes or removes what is not its own. No Kafka is asked here. */
import { afterAll, expect, test } from "@jest/globals";
import { KafkaPart } from "./kafka-part.ts";

const nobody = async (): Promise<never> => {
  throw new Error("no tool is run here");
};
const part = new KafkaPart("", ["127.0.0.1:1"], nobody, async () => {});
const log = part.openLog();
const kafkajs = part.kafkajs();

afterAll(() => log.close());

const topic = (name: string) => ({ name, partitions: 1, replicas: 1, settings: {} });
const info = (name: string) => ({ name, id: "", partitions: 1, replicas: 1 });
const OPENED = { key: null, value: null, headers: [], timeMs: 0 };

test.each<[string, (name: string) => unknown]>([
  ["topic", (name) => log.admin.createTopic(topic(name))],
  ["fenced writer", (name) => log.openFencedWriter(info(name), OPENED)],
  ["transactional writer", (name) => log.openTransactionalWriter(name)],
  ["group", (name) => log.groups.commit(name, part.own("t"), [])],
  ["topic of kafkajs", (name) => kafkajs.admin().createTopics({ topics: [{ topic: name }] })],
  ["topic that kafkajs deletes", (name) => kafkajs.admin().deleteTopics({ topics: [name] })],
  ["group of kafkajs", (name) => kafkajs.consumer({ groupId: name })],
  ["transaction of kafkajs", (name) => kafkajs.producer({ transactionalId: name })],
])("a %s that has not this file's name is refused", (_what, make) => {
  for (const name of ["orders", "kafka-part-2.orders", "_throughline.story.orders"]) {
    expect(() => make(name)).toThrow(`"${name}" may be another test file's`);
  }
});

test("a part is called like its file, and so are names of its own and of its deployment", () => {
  expect([part.name, part.own("orders")]).toEqual(["kafka-part", "kafka-part.orders"]);
  kafkajs.consumer({ groupId: part.own("group") });
  kafkajs.consumer({ groupId: "_throughline.kafka-part.group" });
});
