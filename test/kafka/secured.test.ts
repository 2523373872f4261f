/**
 * TLS, SASL and rights at a real broker: what reads, what appends, who is kept out; and the rights that README says
 * the offsets of groups need: with them they work, without each of them Kafka says so.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import type { KafkaOptions } from "../../kafka/cluster.ts";
import { openKafkaLog } from "../../kafka/kafka-log.ts";
import type { AdminOutcome } from "../../kafka/log.ts";
import { recordsOf } from "../../kafka/records.ts";
import { type EmbeddedKafka, startKafka } from "../../local/embedded-kafka.ts";
import { kafkaTlsSettings, loopbackCertificate } from "../certificate.ts";

const SLOW_MS = 180_000;
const LISTENER = "listener.name.secured";
const PLAIN_USER =
  'org.apache.kafka.common.security.plain.PlainLoginModule required user_app="secret" user_limited="secret";';
const SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;";

const PREFIX = "_throughline.test.";
const TOPIC = "shop.orders";
const AT = [{ offset: 1, epoch: 0 }];

let directory: string;
let kafka: EmbeddedKafka;
let ca: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "throughline-secured-"));
  const made = await loopbackCertificate();
  ca = made.cert;
  kafka = await startKafka({
    directory,
    secured: "SASL_SSL",
    settings: {
      ...kafkaTlsSettings(made),
      [`${LISTENER}.sasl.enabled.mechanisms`]: "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
      [`${LISTENER}.plain.sasl.jaas.config`]: PLAIN_USER,
      [`${LISTENER}.scram-sha-256.sasl.jaas.config`]: SCRAM,
      [`${LISTENER}.scram-sha-512.sasl.jaas.config`]: SCRAM,
      // Whoever is signed in as another has the rights that are granted here, and no others.
      "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      "super.users": "User:ANONYMOUS;User:app",
    },
  });
  const made256 = "SCRAM-SHA-256=[iterations=4096,password=secret]";
  const made512 = "SCRAM-SHA-512=[iterations=4096,password=secret]";
  for (const credential of [made256, made512]) {
    const altered = await kafka.java("kafka.admin.ConfigCommand", [
      ...["--bootstrap-server", kafka.brokers.join(","), "--alter", "--add-config", credential],
      ...["--entity-type", "users", "--entity-name", "app"],
    ]);
    if (altered.code !== 0) throw new Error(altered.stderr);
  }
}, SLOW_MS);

afterAll(async () => {
  await kafka?.stop("SIGKILL");
  await rm(directory, { recursive: true, force: true });
}, SLOW_MS);

type Sasl = NonNullable<KafkaOptions["sasl"]>;

function open(sasl: Sasl, tls: KafkaOptions["tls"] = { ca }) {
  const brokers = kafka.securedBrokers;
  return openKafkaLog({ brokers, clientId: "secured", sasl, ...(tls && { tls }) });
}

function user(mechanism: Sasl["mechanism"], password = "secret", username = "app"): Sasl {
  return { mechanism, username, password };
}

test.each(["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] as const)(
  "with TLS and %s events are appended and read, in answers small and large",
  async (mechanism) => {
    const log = open(user(mechanism));
    const name = `t-${mechanism}`;
    const made = await log.admin.createTopic({ name, partitions: 1, replicas: 1, settings: {} });
    if (made.kind !== "done") throw new Error(made.reason);
    const values = ["small", ...Array.from({ length: 20 }, (_, i) => `${i}`.repeat(50_000))];
    for (const value of values) {
      const record = { key: null, value: Buffer.from(value), headers: [], timeMs: Date.now() };
      expect((await log.append(made.value, 0, record)).kind).toBe("appended");
    }
    const reader = log.openReader(made.value, 0);
    const seen: string[] = [];
    for (let offset = 0; offset < values.length; ) {
      const fetched = await reader.fetch({ offset, epoch: -1 }, 1 << 20, 1000);
      if (fetched.kind !== "fetched") throw new Error(JSON.stringify(fetched));
      const { records, next } = recordsOf(fetched, offset);
      for (const { value } of records) seen.push(String(value));
      fetched.release();
      offset = next;
    }
    expect(seen).toEqual(values);
    await log.close();
  },
  SLOW_MS,
);

test.each([
  ["a wrong password", () => open(user("SCRAM-SHA-256", "guess")), "unauthorised"],
  ["a mechanism that the broker does not offer", () => open(user("OAUTHBEARER")), "unauthorised"],
  ["a certificate of unknown authority", () => open(user("PLAIN"), {}), "unavailable"],
])("%s is refused with the reason, by readers too", async (_what, opened, kind) => {
  const log = opened();
  const topic = { name: "t-PLAIN", id: "00000000000000000000000000000001", partitions: 1 };
  const described = await log.admin.describeTopics([topic.name]);
  expect(described.kind).toBe(kind);
  const reader = log.openReader({ ...topic, replicas: 1 }, 0);
  const outcome = await reader.fetch({ offset: 0, epoch: -1 }, 1024, 10);
  expect(outcome.kind).toBe(kind);
  expect((outcome as { reason: string }).reason).toMatch(/^Kafka: .{10}/);
  await log.close();
});

async function grant(operation: string, ...resource: string[]): Promise<void> {
  const run = await kafka.java("org.apache.kafka.tools.AclCommand", [
    ...[
      "--bootstrap-server",
      kafka.brokers.join(","),
      "--add",
      "--allow-principal",
      "User:limited",
    ],
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
    const owner = openKafkaLog({ brokers: kafka.brokers, clientId: "owner" });
    await owner.admin.createTopic({ name: TOPIC, partitions: 1, replicas: 1, settings: {} });
    await owner.close();
    const log = open(user("PLAIN", "secret", "limited"));
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
    await log.close();
  },
  SLOW_MS,
);
