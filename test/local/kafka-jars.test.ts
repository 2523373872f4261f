/** Kafka's jars: each whole or not at all; a warm cache needs no network; a cold one says the next step. */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { ensureKafkaJars, type JarLock } from "../../local/kafka-jars.ts";

const CONTENT: Record<string, string> = { "a.jar": "aaaa", "b.jar": "bbbb", "c.jar": "cccc" };
const LOCK: JarLock = {
  kafka: "1.2.3",
  jars: Object.entries(CONTENT).map(([name, text]) => ({
    path: `org/x/${name}`,
    sha256: createHash("sha256").update(text).digest("hex"),
  })),
};

let cache: string;
let mirror: Server;
let asked: string[];
let lines: string[];
let serve: RequestListener;

const good: RequestListener = (request, response) => {
  response.end(CONTENT[request.url?.split("/").at(-1) ?? ""]);
};

beforeEach(async () => {
  cache = mkdtempSync(join(tmpdir(), "throughline-jars-"));
  asked = [];
  lines = [];
  serve = good;
  mirror = createServer((request, response) => {
    asked.push(request.url ?? "");
    serve(request, response);
  });
  await new Promise<void>((resolve) => mirror.listen(0, "127.0.0.1", resolve));
});

afterEach(() => {
  mirror.closeAllConnections();
  mirror.close();
  rmSync(cache, { recursive: true, force: true });
});

function ensure(): Promise<string> {
  const { port } = mirror.address() as AddressInfo;
  const say = (line: string): void => void lines.push(line);
  return ensureKafkaJars(cache, `http://127.0.0.1:${port}`, say, LOCK);
}

async function closeMirror(): Promise<void> {
  const { port } = mirror.address() as AddressInfo;
  mirror.closeAllConnections();
  await new Promise((resolve) => mirror.close(resolve));
  // Nobody listens there now.
  mirror.address = () => ({ port, family: "IPv4", address: "127.0.0.1" });
}

function cached(): string[] {
  return readdirSync(join(cache, "kafka-1.2.3")).sort();
}

test("a cold cache is filled, with progress", async () => {
  const folder = await ensure();
  expect(folder).toBe(join(cache, "kafka-1.2.3"));
  expect(cached()).toEqual(["a.jar", "b.jar", "c.jar"]);
  expect(readFileSync(join(folder, "b.jar"), "utf8")).toBe("bbbb");
  expect(lines).toEqual(["Fetching Apache Kafka 1.2.3: 3 of 3 jars", "  3 of 3 jars"]);
});

test("a warm cache needs no network", async () => {
  await ensure();
  await closeMirror();
  lines = [];
  await ensure();
  expect(lines).toEqual([]);
});

test("a cold cache without network is one error with the next step", async () => {
  await closeMirror();
  await expect(ensure()).rejects.toThrow(
    /Cannot fetch http:\/\/127\.0\.0\.1:\d+\/org\/x\/.\.jar for the embedded Kafka: .*ECONNREFUSED.*Connect to the network once, or name a mirror in MAVEN_REPOSITORY, or a running Kafka in KAFKA_BROKERS\./,
  );
  expect(cached()).toEqual([]);
});

test("a mirror that serves another file is not believed, and leaves nothing", async () => {
  serve = (_request, response) => void response.end("malware");
  await expect(ensure()).rejects.toThrow(/checksum is [0-9a-f]{64}, expected/);
  expect(cached()).toEqual([]);
});

test("a mirror that has not the file is named by its answer", async () => {
  serve = (_request, response) => void response.writeHead(404).end();
  await expect(ensure()).rejects.toThrow(/HTTP status 404/);
});

test("an address that is none is an error with the next step", async () => {
  await expect(ensureKafkaJars(cache, "nowhere", () => {}, LOCK)).rejects.toThrow(
    /Cannot fetch nowhere\/org.*MAVEN_REPOSITORY/,
  );
});

test("a download that breaks off is tried again", async () => {
  let broken = 0;
  serve = (request, response) => {
    if (request.url?.endsWith("a.jar") && broken++ === 0) {
      response.writeHead(200, { "content-length": "4" });
      response.write("aa", () => response.destroy());
    } else good(request, response);
  };
  await ensure();
  expect(cached()).toEqual(["a.jar", "b.jar", "c.jar"]);
  expect(asked.filter((url) => url.endsWith("a.jar"))).toHaveLength(2);
});

test("after a start that was cut short only what is missing is fetched", async () => {
  const folder = await ensure();
  rmSync(join(folder, "b.jar"));
  // What a killed process leaves: a part, and a file that the disk had no room for.
  writeFileSync(join(folder, "b.jar.1.part"), "bb");
  writeFileSync(join(folder, "c.jar"), "");
  asked = [];
  await ensure();
  expect(asked.toSorted()).toEqual(["/org/x/b.jar", "/org/x/c.jar"]);
  expect(readFileSync(join(folder, "b.jar"), "utf8")).toBe("bbbb");
});

test("a cache that cannot be made is an error with the next step", async () => {
  writeFileSync(join(cache, "file"), "");
  await expect(ensureKafkaJars(join(cache, "file"), "http://x", () => {}, LOCK)).rejects.toThrow(
    /cache .* cannot be made: .*Name another in XDG_CACHE_HOME/,
  );
});
