/** The rights that README says the offsets of groups need: with them they work, without each of them Kafka says so. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { AdminOutcome, Log } from "../../kafka/log.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";

const SLOW_MS = 180_000;
const PREFIX = "_throughline.test.";
const TOPIC = "shop.orders";
const AT = [{ offset: 1, epoch: 0 }];

let directory: string;
let kafka: EmbeddedKafka;
/** Signed in as a user without any right but those granted here. */
let log: Log;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-rights-"));
  const login = "org.apache.kafka.common.security.plain.PlainLoginModule required";
  kafka = await startKafka({
    directory,
    secured: "SASL_PLAINTEXT",
    settings: {
      "listener.name.secured.sasl.enabled.mechanisms": "PLAIN",
      "listener.name.secured.plain.sasl.jaas.config": `${login} user_app="secret";`,
      "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      "super.users": "User:ANONYMOUS",
    },
  });
  const owner = openKafkaLog({ brokers: kafka.brokers, clientId: "owner" });
  await owner.admin.createTopic({ name: TOPIC, partitions: 1, replicas: 1, settings: {} });
  await owner.close();
  log = openKafkaLog({
    ...{ brokers: kafka.securedBrokers, clientId: "rights" },
    sasl: { mechanism: "PLAIN", username: "app", password: "secret" },
  });
}, SLOW_MS);

afterAll(async () => {
  await log?.close();
  await kafka?.stop();
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

async function grant(operation: string, ...resource: string[]): Promise<void> {
  const run = await kafka.java("org.apache.kafka.tools.AclCommand", [
    ...["--bootstrap-server", kafka.brokers.join(","), "--add", "--allow-principal", "User:app"],
    ...["--operation", operation, ...resource],
  ]);
  if (run.code !== 0) throw new Error(run.stderr || run.stdout);
}

/** A grant is there when the broker has heard of it. */
async function becomes(step: () => Promise<AdminOutcome<void>>, word: string): Promise<void> {
  for (let said = ""; !said.includes(word); said = wordOf(await step()));
}

function wordOf(outcome: AdminOutcome<void>): string {
  return outcome.kind === "done" ? "done" : `${outcome.kind}: ${outcome.reason}`;
}

test(
  "Read on the topic, Read and Delete on groups of the prefix: all three, and no more",
  async () => {
    const commit = (group = `${PREFIX}shop.orders.s`) => log.groups.commit(group, TOPIC, AT);
    const groups = ["--group", PREFIX, "--resource-pattern-type", "prefixed"];
    const remove = () => log.groups.delete(`${PREFIX}shop.orders.s`);
    const refused = "unauthorised: Kafka: GROUP_AUTHORIZATION_FAILED";
    expect(wordOf(await commit())).toContain(refused);
    await grant("Read", ...groups);
    await becomes(commit, "unauthorised: Kafka: TOPIC_AUTHORIZATION_FAILED");
    await grant("Read", "--topic", TOPIC);
    await becomes(commit, "done");
    expect(wordOf(await remove())).toContain(refused);
    await grant("Delete", ...groups);
    await becomes(remove, "done");
    expect(wordOf(await commit("_throughline.other.shop.orders.s"))).toContain(refused);
  },
  SLOW_MS,
);
