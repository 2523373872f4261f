/** The sequencer's flags: what suffices, what is refused, each error with its flag. */
import { expect, test } from "@jest/globals";
import { parseConfig } from "../../sequencer/config.ts";
import { slotNameOf } from "../../sequencer/term.ts";

const REQUIRED = [
  ...["--database", "postgres://seq@db:5433/shop", "--kafka", "k1:9092"],
  ...["--deployment-id", "prod", "--namespace", "shop", "--outbox", "orders"],
];
const FILES: Record<string, string> = { secret: "hush\n", ca: "CA" };

function parse(...args: string[]) {
  return parseConfig({
    ...{ args, environment: {}, hostname: () => "pod-1" },
    readFile: (path) => Buffer.from(FILES[path] ?? ""),
  });
}

function errorsOf(...args: string[]): readonly string[] {
  const parsed = parse(...REQUIRED, ...args);
  return parsed.kind === "errors" ? parsed.errors : [];
}

test("a database, Kafka and whose Outbox it is suffice", () => {
  const parsed = parse(...REQUIRED, "--database-password-file", "secret");
  if (parsed.kind !== "config") throw new Error(JSON.stringify(parsed));
  expect(parsed.config).toEqual({
    ...{ deed: "run", kafka: { brokers: ["k1:9092"], tls: undefined, sasl: undefined } },
    identity: {
      ...{ deploymentId: "prod", namespace: "shop", outbox: "orders" },
      instance: expect.stringMatching(/^pod-1_[0-9a-f-]{36}$/),
    },
    database: {
      ...{ host: "db", port: 5433, database: "shop", user: "seq" },
      ...{ password: "hush", tls: undefined },
    },
    ...{ keepSentHours: undefined, retainedWalLimitBytes: 10 * 2 ** 30 },
    ...{ healthListen: undefined, logLevel: "info" },
  });
  expect(parse(...REQUIRED, "--database-tls-ca-file", "ca")).toMatchObject({
    config: { database: { tls: { ca: Buffer.from("CA") } } },
  });
});

test("what is not Kafka's business does without Kafka", () => {
  const args = REQUIRED.filter((arg) => !["--kafka", "k1:9092"].includes(arg));
  expect(parse(...args, "--do", "migrate")).toMatchObject({
    config: { deed: "migrate", kafka: undefined },
  });
  expect(parse(...args)).toMatchObject({ kind: "errors" });
});

test.each([
  [["--database", "db:5432"], /^--database is not postgres:/],
  [["--database", "postgres://db/shop"], /^--database is not postgres:/],
  [["--database", "postgres://seq@db"], /^--database is not postgres:/],
  [["--database", "postgres://seq:hush@db/shop"], /^--database has a password.*password-file/],
  [["--database", "postgres://seq@db/shop?sslmode=require"], /^--database has \?sslmode=require/],
  [["--database-tls", "yes"], /^--database-tls is "yes"/],
  [["--do", "drop"], /^--do is "drop"; it must be run, migrate, forget-slot/],
  [["--namespace", "Shop"], /^--namespace is "Shop"/],
  [["--keep-sent-hours", "1.5"], /^--keep-sent-hours is "1.5"; it must be 1 to/],
  [
    ["--retained-wal-limit", "10"],
    /^--retained-wal-limit is "10"; it must be a whole number of Mi/,
  ],
  [["--outbox", "a_b"], /^--outbox is "a_b"/],
  [["--outbx", "a"], /^--outbx is not a flag/],
])("%j is refused by its name, without secrets", (args, words) => {
  const errors = errorsOf(...args);
  expect(errors).toHaveLength(1);
  expect(errors[0]).toMatch(words);
  expect(errors[0]).not.toContain("hush");
});

test("a slot's name is PostgreSQL's, and another for another Outbox however long", () => {
  const of = (outbox: string) =>
    slotNameOf({ deploymentId: "prod", namespace: "shop", outbox, instance: "i" });
  expect(of("orders")).toBe("throughline_prod_shop_orders");
  const [one, other] = [of(`${"o".repeat(60)}-a`), of(`${"o".repeat(60)}-b`)];
  expect(one).toMatch(/^[a-z0-9_]{1,63}$/);
  expect(one).not.toBe(other);
});
