/** What only Kafka can judge, in its own words (P9, P10). The rest is in contract.test.ts. */
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { Log, LogAdmin, TopicSettings } from "../../kafka/log.ts";
import { KafkaPart } from "../kafka-part.ts";

const SLOW_MS = 240_000;

let kafka: KafkaPart;
let log: Log;

beforeAll(async () => {
  kafka = await KafkaPart.open();
  log = kafka.openLog();
}, SLOW_MS);

afterAll(async () => {
  await log?.close();
  await kafka?.close();
}, SLOW_MS);

function create(topic: Partial<Parameters<LogAdmin["createTopic"]>[0]> & { name: string }) {
  const name = kafka.own(topic.name);
  return log.admin.createTopic({ partitions: 1, replicas: 1, settings: {}, ...topic, name });
}

test("replicas -1 means the broker's default", async () => {
  expect(await create({ name: "default.replicas", replicas: -1 })).toMatchObject({
    kind: "done",
    value: { partitions: 1, replicas: 1 },
  });
});

test.each([
  [
    "more replicas than brokers",
    { replicas: 3 },
    "INVALID_REPLICATION_FACTOR",
    /replication factor/i,
  ],
  ["an unknown setting", { settings: { "no.such": "1" } }, "INVALID_CONFIG", /no\.such/],
  ["a bad value", { settings: { "retention.ms": "x" } }, "INVALID_CONFIG", /retention\.ms/],
  ["a name that Kafka does not take", { name: "a/b" }, "INVALID_TOPIC_EXCEPTION", /a\/b/],
  ["no partitions", { partitions: 0 }, "INVALID_PARTITIONS", /partitions/],
])(
  "%s is refused by name and in Kafka's words, and nothing is made",
  async (_, topic, error, words) => {
    const refused = await create({ name: "refused", ...topic });
    expect(refused).toMatchObject({ kind: "refused", error });
    expect("reason" in refused && refused.reason).toMatch(words);
    const listed = await log.admin.listTopics();
    expect(listed.kind === "done" && listed.value).not.toContain(kafka.own("refused"));
  },
);

test("a refused change of settings changes nothing", async () => {
  await create({ name: "settings", settings: { "retention.ms": "100000" } });
  const refused = await log.admin.changeSettings(
    kafka.own("settings"),
    { "retention.ms": "200000", "segment.ms": "-7" },
    [],
  );
  expect(refused).toMatchObject({ kind: "refused", error: "INVALID_CONFIG" });
  expect(await log.admin.settings(kafka.own("settings"))).toEqual({
    kind: "done",
    value: { "retention.ms": "100000" },
  });
});

test(
  "a setting that somebody else made stays when ours change",
  async () => {
    await create({ name: "shared" });
    const theirs = await kafka.java("kafka.admin.ConfigCommand", [
      ...["--bootstrap-server", kafka.brokers[0] as string, "--alter", "--entity-type", "topics"],
      ...["--entity-name", kafka.own("shared"), "--add-config", "segment.bytes=2000000"],
    ]);
    expect(theirs).toMatchObject({ code: 0 });
    await log.admin.changeSettings(kafka.own("shared"), { "retention.ms": "100000" }, [
      "cleanup.policy",
    ]);
    const settings = async (): Promise<TopicSettings> => {
      const found = await log.admin.settings(kafka.own("shared"));
      if (found.kind !== "done") throw new Error(found.reason);
      return found.value;
    };
    // A broker's view follows a change after a moment.
    while (!("retention.ms" in (await settings())));
    expect(await settings()).toEqual({ "retention.ms": "100000", "segment.bytes": "2000000" });
  },
  SLOW_MS,
);

test("each step is seen by the next look: made, grown, deleted", async () => {
  for (let i = 0; i < 20; i++) {
    const made = await create({ name: `seen.${i}`, partitions: 2 });
    if (made.kind !== "done") throw new Error(made.reason);
    expect(await log.offset(made.value, 1, "latest")).toMatchObject({ kind: "offset", offset: 0 });
    await log.admin.createPartitions(made.value.name, 5);
    const grown = await log.admin.describeTopics([made.value.name]);
    expect(grown.kind === "done" && grown.value.get(made.value.name)?.partitions).toBe(5);
    expect(await log.admin.deleteTopic(made.value.id)).toEqual({ kind: "done", value: undefined });
    const left = await log.admin.describeTopics([made.value.name]);
    expect(left.kind === "done" && left.value.size).toBe(0);
  }
}, 60_000);

test("a topic that another client made is described with its id and counts", async () => {
  const theirs = kafka.own("theirs");
  const witness = kafka.kafkajs().admin();
  await witness.connect();
  await witness.createTopics({
    topics: [{ topic: theirs, numPartitions: 4 }],
    waitForLeaders: true,
  });
  await witness.disconnect();
  const described = await log.admin.describeTopics([theirs]);
  expect(described.kind === "done" && described.value.get(theirs)).toEqual({
    name: theirs,
    id: expect.stringMatching(/^[0-9a-f]{32}$/),
    partitions: 4,
    replicas: 1,
  });
});

test("names that begin alike are found without the others, also when their partitions fill several answers", async () => {
  await Promise.all(
    [
      { name: "alike" },
      { name: "alike.one", partitions: 130 },
      { name: "alike.two", partitions: 130 },
      { name: "alika.three" },
      { name: "alikf" },
    ].map(create),
  );
  const all = ["alike", "alike.one", "alike.two", "alika.three", "alikf"].map((n) => kafka.own(n));
  // A broker that is busy shows a topic some time after it is made.
  const areShown = async (): Promise<boolean> => {
    const shown = await log.admin.describeTopics(all);
    return shown.kind === "done" && all.every((name) => shown.value.get(name));
  };
  while (!(await areShown()));
  const found = await log.admin.listTopics(kafka.own("alike"));
  expect(found).toEqual({ kind: "done", value: all.slice(0, 3) });
  expect(await log.admin.listTopics(kafka.own("none"))).toEqual({ kind: "done", value: [] });
});

test("Kafka out of reach is unavailable, not a refusal, and names the address", async () => {
  const nowhere = openKafkaLog({ brokers: ["127.0.0.1:1"], clientId: "nowhere" });
  const outcomes = [
    await nowhere.admin.listTopics(),
    await nowhere.admin.listTopics("t"),
    await nowhere.admin.settings("t"),
    await nowhere.admin.deleteTopic("0".repeat(32)),
    await nowhere.admin.createTopic({ name: "t", partitions: 1, replicas: 1, settings: {} }),
  ];
  for (const outcome of outcomes) {
    expect(outcome).toMatchObject({ kind: "unavailable" });
    expect("reason" in outcome && outcome.reason).toContain("127.0.0.1:1");
  }
  await nowhere.close();
}, 60_000);

test("of topics made at once only those are refused that Kafka refuses, and each is told its own", async () => {
  const names = Array.from({ length: 70 }, (_, i) => `together.${i}`);
  const outcomes = await Promise.all(
    names.map((name, i) => create({ name, partitions: 1 + (i % 3), replicas: i === 33 ? 3 : 1 })),
  );
  for (const [i, outcome] of outcomes.entries()) {
    if (i === 33) expect(outcome).toMatchObject({ kind: "refused" });
    else {
      const made = { name: kafka.own(names[i] as string), partitions: 1 + (i % 3) };
      expect(outcome).toMatchObject({ value: made });
    }
  }
  const [once, twice] = await Promise.all(["same", "same"].map((name) => create({ name })));
  expect(once?.kind).toBe("done");
  expect(twice).toMatchObject({ kind: "refused", error: "TOPIC_ALREADY_EXISTS" });
  const found = await log.admin.describeTopics(names.map((name) => kafka.own(name)));
  expect(found.kind === "done" && found.value.size).toBe(69);
  const all = await Promise.all(names.map((name) => log.admin.settings(kafka.own(name))));
  expect(all.map(({ kind }, i) => (kind === "done" ? -1 : i)).filter((i) => i >= 0)).toEqual([33]);
});
