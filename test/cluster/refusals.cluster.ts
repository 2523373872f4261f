/** What only a Kafka can refuse: a stable reason, its own sentence, one Event, and a way out. */
import { rmSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "@jest/globals";
import { CLUSTER_POLICY, clusterPolicyClasses } from "./cluster-policy.ts";
import { readyOf, SLOW_MS, TopicBed } from "./topic-bed.ts";

const LISTENER = "listener.name.secured";
const USERS =
  'org.apache.kafka.common.security.plain.PlainLoginModule required user_operator="secret";';

const classes = clusterPolicyClasses();
let bed: TopicBed;

beforeAll(async () => {
  bed = await TopicBed.start({
    ...{ secured: "SASL_PLAINTEXT", classes },
    settings: {
      ...CLUSTER_POLICY,
      "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
      "super.users": "User:ANONYMOUS",
      "allow.everyone.if.no.acl.found": "true",
      "delete.topic.enable": "false",
      [`${LISTENER}.sasl.enabled.mechanisms`]: "PLAIN",
      [`${LISTENER}.plain.sasl.jaas.config`]: USERS,
    },
  });
  const denied = await bed.kafka.java("org.apache.kafka.tools.AclCommand", [
    ...["--bootstrap-server", bed.kafka.brokers.join(","), "--add", "--deny-principal"],
    ...["User:operator", "--operation", "All", "--topic", "no.denied"],
  ]);
  if (denied.code !== 0) throw new Error(denied.stderr);
  await bed.namespace("no");
  bed.operator(
    "no",
    ...["--namespaces", "no", "--kafka", bed.kafka.securedBrokers.join(",")],
    ...["--kafka-sasl-mechanism", "PLAIN", "--kafka-sasl-user", "operator"],
    ...["--kafka-sasl-password-file", bed.file("password", "secret")],
  );
}, SLOW_MS);

afterAll(async () => {
  await bed?.stop();
  rmSync(classes, { recursive: true, force: true });
}, SLOW_MS);

test.each([
  ["too few brokers", "few", { replicas: 3 }, "INVALID_REPLICATION_FACTOR", /replication factor/i],
  ["an unknown setting", "typo", { config: { "no.such": "1" } }, "INVALID_CONFIG", /no\.such/],
  ["a name against the cluster's policy", "policed", {}, "POLICY_VIOLATION", /No such name here\./],
  ["no rights", "denied", {}, "NotAuthorised", /authori[sz]ation failed.*Kafka user/i],
])(
  "%s",
  async (_what, name, spec, reason, words) => {
    await bed.apply(`no/${name}`, spec);
    await bed.untilReason(`no/${name}`, reason);
    const ready = readyOf(await bed.topic(`no/${name}`));
    expect([ready?.status, ready?.message]).toEqual(["False", expect.stringMatching(words)]);
    expect(await bed.kafkaTopic(`no.${name}`)).toBeUndefined();
    // Two more attempts have passed, and nothing more was said.
    await bed.apply(`no/${name}-after`, {});
    await bed.untilReady(`no/${name}-after`);
    expect(await bed.told(`no/${name}`, 1)).toEqual([`Warning ${reason}`]);
  },
  SLOW_MS,
);

test(
  "a correction is enough",
  async () => {
    await bed.patch("no/few", { spec: { replicas: 1 } });
    await bed.untilReady("no/few");
    expect(await bed.told("no/few", 2)).toEqual([
      ...["Warning INVALID_REPLICATION_FACTOR", "Normal Ready"],
    ]);
  },
  SLOW_MS,
);

test(
  "a change against the cluster's policy is refused in its own words: the stream goes on, and without it all is well again",
  async () => {
    await bed.apply("no/changed", { retention: { time: "1d" } });
    await bed.untilReady("no/changed");
    const { topicId } = (await bed.topic("no/changed")).status ?? {};
    await bed.patch("no/changed", { spec: { config: { "segment.ms": "60000" } } });
    await bed.untilReason("no/changed", "POLICY_VIOLATION");
    const refused = await bed.topic("no/changed");
    expect(readyOf(refused)?.message).toContain("segment.ms is ours.");
    expect((await bed.kafkaTopic("no.changed"))?.id).toBe(topicId);
    await bed.patch("no/changed", { spec: { config: null } });
    await bed.untilReady("no/changed");
    expect(await bed.told("no/changed", 2)).toEqual(["Warning POLICY_VIOLATION", "Normal Ready"]);
  },
  SLOW_MS,
);

test(
  "other replicas than the spec's are said with what to do, and the stream is served",
  async () => {
    await bed.apply("no/more", { replicas: 1 });
    await bed.untilReady("no/more");
    await bed.patch("no/more", { spec: { replicas: 2 } });
    await bed.untilReason("no/more", "ReplicasDiffer");
    const { message } = readyOf(await bed.topic("no/more")) ?? {};
    expect(message).toContain("kafka-reassign-partitions");
  },
  SLOW_MS,
);

test(
  "where Kafka does not delete topics the deletion waits, until the policy is Retain",
  async () => {
    await bed.apply("no/stays", { deletionPolicy: "Delete" });
    await bed.untilReady("no/stays");
    await bed.delete("no/stays");
    await bed.untilReason("no/stays", "DeletionWaits");
    expect(readyOf(await bed.topic("no/stays"))?.message).toContain("TOPIC_DELETION_DISABLED");
    await bed.patch("no/stays", { spec: { deletionPolicy: "Retain" } });
    await bed.untilGone("no/stays");
    expect(await bed.kafkaTopic("no.stays")).toBeDefined();
  },
  SLOW_MS,
);
