/** `npm start` as a process: bad input is one clear error, and what runs ends and comes back cleanly. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import pg from "pg";
import { ThroughlineClient } from "../../client/client.ts";
import { freePorts } from "../../local/free-ports.ts";

const SLOW_MS = 240_000;
const root = join(import.meta.dirname, "..", "..");

let scratch: string;
let started: Start[];
let listeners: Server[];

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "throughline-start-"));
  started = [];
  listeners = [];
});

afterEach(async () => {
  for (const start of started) {
    if (start.child.exitCode === null) start.child.kill("SIGTERM");
    await start.ended;
  }
  for (const listener of listeners) listener.close();
  rmSync(scratch, { recursive: true, force: true });
}, SLOW_MS);

class Start {
  readonly lines: string[] = [];
  readonly child: ChildProcess;
  /** Resolves with the exit code. */
  readonly ended: Promise<number | null>;
  #looks = new Set<() => void>();

  constructor(args: readonly string[], environment: Record<string, string> = {}) {
    this.child = spawn(
      process.execPath,
      ["--disable-warning=ExperimentalWarning", join(root, "local", "main.ts"), ...args],
      {
        env: {
          ...process.env,
          ...{ KAFKA_BROKERS: "", POSTGRES_URL: "" },
          ...environment,
        },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    for (const stream of [this.child.stdout, this.child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on("line", (line) => {
        this.lines.push(line);
        for (const look of this.#looks) look();
      });
    }
    this.ended = new Promise((resolve) => this.child.once("close", (code) => resolve(code)));
    started.push(this);
  }

  /** Resolves when a line holds the words; rejects when it ends before. */
  said(words: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (this.lines.some((line) => line.includes(words))) resolve();
      };
      this.#looks.add(look);
      void this.ended.then(() =>
        reject(new Error(`ended without "${words}":\n${this.lines.join("\n")}`)),
      );
      look();
    });
  }
}

function listen(): Promise<number> {
  const server = createServer();
  listeners.push(server);
  return new Promise((resolve) =>
    server.listen(0, "127.0.0.1", () => resolve((server.address() as { port: number }).port)),
  );
}

async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port as number;
}

function isOpen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

describe("bad input is one line that says what to do, exit code 1, and nothing is started", () => {
  test.each([
    ["an unknown flag", ["--prot", "1"], {}, /'--prot'.*--help lists the flags/],
    ["a flag without its value", ["--servers"], {}, /--servers.*argument missing/],
    ["no servers", ["--servers", "0"], {}, /--servers is 0; it must be 1 to 26/],
    ["a port that is none", ["--port", "http"], {}, /--port is http; it must be 1 to/],
    ["a namespace that is none", ["--namespace", "A b"], {}, /--namespace is "A b"; it must be/],
    [
      "KAFKA_BROKERS without a port",
      [],
      { KAFKA_BROKERS: "localhost" },
      /KAFKA_BROKERS has "localhost"; each must be host:port/,
    ],
    [
      "a POSTGRES_URL that is none, without its password",
      ["--outbox", "till"],
      { POSTGRES_URL: "postgres://:hush@db/shop" },
      /: POSTGRES_URL is not postgres:\/\/user:password@host:port\/database\.$/,
    ],
    [
      "a Kafka that is absent",
      [],
      { KAFKA_BROKERS: "127.0.0.1:1" },
      /ECONNREFUSED 127\.0\.0\.1:1\. KAFKA_BROKERS names 127\.0\.0\.1:1: start that Kafka, correct/,
    ],
  ])("%s", async (_what, args, environment, message) => {
    const port = String(await freePort());
    const start = new Start(
      ["--port", port, "--data", join(scratch, "data"), ...args],
      environment,
    );
    expect(await start.ended).toBe(1);
    expect(start.lines).toEqual([expect.stringMatching(message)]);
  });

  test("Java missing and not installable", async () => {
    const environment = { PATH: scratch, JAVA_HOME: "", XDG_CACHE_HOME: scratch };
    const port = String(await freePort());
    const start = new Start(["--port", port, "--data", join(scratch, "data")], environment);
    expect(await start.ended).toBe(1);
    expect(start.lines.at(-1)).toMatch(
      /^npm start: The embedded Kafka needs Java 17 or newer.*set JAVA_HOME, or name a running Kafka/,
    );
  });

  test("no network and a cold cache", async () => {
    const environment = { XDG_CACHE_HOME: scratch, MAVEN_REPOSITORY: "http://127.0.0.1:1" };
    const port = String(await freePort());
    const start = new Start(["--port", port, "--data", join(scratch, "data")], environment);
    expect(await start.ended).toBe(1);
    expect(start.lines).toEqual([
      expect.stringMatching(/^Fetching Apache Kafka/),
      expect.stringMatching(/^npm start: Cannot fetch .*\. Connect to the network once, or/),
    ]);
  });

  test("a port in use, known before Kafka is started", async () => {
    const port = await listen();
    const start = new Start(["--port", String(port), "--data", join(scratch, "data")]);
    expect(await start.ended).toBe(1);
    expect(start.lines).toEqual([
      `npm start: Port ${port} of 127.0.0.1 is in use: stop the process that listens there, or choose others with --port.`,
    ]);
  });
});

test("--help names every flag and what is read from the environment", async () => {
  const start = new Start(["--help"]);
  expect(await start.ended).toBe(0);
  const text = start.lines.join("\n");
  for (const word of ["--servers", "--port", "--topics", "--data", "--fresh", "KAFKA_BROKERS"]) {
    expect(text).toContain(word);
  }
});

describe("on an embedded Kafka", () => {
  let port: number;
  let client: ThroughlineClient;

  beforeEach(async () => {
    port = await freePort();
    client = new ThroughlineClient([`127.0.0.1:${port}`]);
    const topic = (name: string, spec: object): void => {
      const metadata = { name, namespace: "demo" };
      const kind = { apiVersion: "throughline.dev/v1alpha1", kind: "Topic" };
      writeFileSync(join(scratch, `${name}.yaml`), JSON.stringify({ ...kind, metadata, spec }));
    };
    topic("notes", { replicas: 1 });
    topic("receipts", { replicas: 1, ordering: "Commit", outbox: "till" });
  });

  afterEach(() => client.close());

  function start(...args: string[]): Start {
    const data = ["--data", join(scratch, "data"), "--topics", scratch];
    return new Start(["--servers", "1", "--port", String(port), ...data, ...args]);
  }

  async function publish(text: string): Promise<void> {
    const event = { key: Buffer.from("k"), payload: Buffer.from(text), headers: [], type: "note" };
    const [answer] = await client.publish("notes", [{ ...event, timeMs: undefined }]);
    if (answer?.result?.$case !== "position") throw new Error(JSON.stringify(answer));
  }

  /** With a transaction of its own, as soon as its Topic is known there. */
  async function publishInSql(of: Start, text: string): Promise<void> {
    const url = of.lines.map((line) => /^Outbox till: ([^,]+),/.exec(line)?.[1]).find(Boolean);
    const sql = new pg.Client(url);
    await sql.connect();
    const known = "select count(*)::int as known from throughline.topics";
    while ((await sql.query(known)).rows[0].known === 0) await sql.query("select pg_sleep(0.05)");
    await sql.query("select throughline.publish('receipts', 'note', 'k', $1)", [Buffer.from(text)]);
    await sql.end();
  }

  /** The texts from the earliest on, until one is `last`. */
  async function readTo(last: string, topic = "notes"): Promise<string[]> {
    const texts: string[] = [];
    const earliest = { $case: "earliest", value: {} } as const;
    for await (const { events } of client.subscribe({ topic, start: earliest })) {
      texts.push(...events.map(({ payload }) => payload?.toString() ?? ""));
      if (texts.includes(last)) break;
    }
    return texts;
  }

  const kafkaPid = (): number =>
    Number(readFileSync(join(scratch, "data", "kafka", "node-1", "pid"), "utf8"));

  const numberIn = ({ lines }: Start, pattern: RegExp): number =>
    Number(lines.map((line) => pattern.exec(line)?.[1]).find(Boolean));
  const kafkaPortOf = (of: Start): number => numberIn(of, /^Kafka: 127\.0\.0\.1:(\d+)$/);

  test(
    "a server and Kafka that end by themselves come back; data stays; all ends with it",
    async () => {
      const first = start();
      await first.said("Ctrl-C ends it");
      const unfed = "Nothing feeds it; npm start -- --namespace demo --outbox till would.";
      expect(first.lines.filter((line) => line.includes(unfed))).toEqual([
        `Topic demo/receipts is Ready: Kafka topic demo.receipts, 1 partition. ${unfed}`,
      ]);
      expect(
        first.lines.filter((line) => /grpcurl .*"topic":"notes".*Publish$/.test(line)),
      ).toHaveLength(1);
      await publish("one");

      const data = join(scratch, "data");
      const second = new Start(["--port", String(await freePort()), "--data", data]);
      expect(await second.ended).toBe(1);
      expect(second.lines.at(-1)).toMatch(/data is in use by process \d+; end that one, or use/);

      process.kill(kafkaPid(), "SIGKILL");
      await first.said("Kafka ended by itself (SIGKILL); starting it again");
      await first.said("Kafka is back");
      await publish("two");
      process.kill(numberIn(first, /^Server A: .* process (\d+)/), "SIGKILL");
      await first.said("Server A ended by itself (SIGKILL); starting it again");
      await first.said("Server A is back");
      expect(await readTo("two")).toEqual(["one", "two"]);

      first.child.kill("SIGTERM");
      expect(await first.ended).toBe(0);
      expect(await isOpen(kafkaPortOf(first))).toBe(false);
      expect(await isOpen(port)).toBe(false);

      const again = start("--outbox", "till");
      await again.said("Ctrl-C ends it");
      expect(again.lines.filter((line) => line.includes(unfed))).toEqual([]);
      expect(await readTo("two")).toEqual(["one", "two"]);
      await publishInSql(again, "paid");
      expect(await readTo("paid", "receipts")).toEqual(["paid"]);

      // Killed outright: its server ends by itself, its Kafka is found by the next start.
      const done = new AbortController();
      const broken = new Promise<void>((resolve) => {
        const onBreak = (): void => resolve();
        const following = client.subscribe({ topic: "notes", onBreak, signal: done.signal });
        void following.next();
      });
      again.child.kill("SIGKILL");
      await again.ended;
      await broken;
      done.abort();
      client.close();
      client = new ThroughlineClient([`127.0.0.1:${port}`]);

      // Frozen, so that it does not end by itself when its files go.
      process.kill(kafkaPid(), "SIGSTOP");
      const fresh = start("--fresh");
      await fresh.said("Ctrl-C ends it");
      expect(await isOpen(kafkaPortOf(again))).toBe(false);
      await publish("three");
      expect(await readTo("three")).toEqual(["three"]);
      fresh.child.kill("SIGINT");
      expect(await fresh.ended).toBe(0);
    },
    SLOW_MS,
  );

  test(
    "a stop while Kafka starts leaves nothing running",
    async () => {
      const early = start();
      await early.said("Starting Apache Kafka");
      early.child.kill("SIGINT");
      expect(await early.ended).toBe(0);
      expect(() => kafkaPid()).toThrow("ENOENT");
      expect(await isOpen(port)).toBe(false);
    },
    SLOW_MS,
  );
});
