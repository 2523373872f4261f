/** The embedded session store: where its program comes from, what a restart keeps, and whom it ends with. */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deflateRawSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "@jest/globals";
import { startStore } from "../../local/embedded-store.ts";
import { ensureStoreBinary, type StoreMachine } from "../../local/store-binary.ts";
import { openPlain, SLOW_MS } from "../sessions/real-store.ts";
import { ROOT } from "../source-files.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "throughline-embedded-store-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A zip file: local headers with data, then the directory that points at them. */
function zipped(entries: Readonly<Record<string, string>>): Buffer {
  const bodies: Buffer[] = [];
  const listing: Buffer[] = [];
  let at = 0;
  for (const [name, text] of Object.entries(entries)) {
    const packed = deflateRawSync(text);
    const local = Buffer.alloc(30);
    local.write("PK\x03\x04", 0, "latin1");
    local.writeUInt16LE(name.length, 26);
    // More than the directory says: the two differ in real files.
    local.writeUInt16LE(4, 28);
    const central = Buffer.alloc(46);
    central.write("PK\x01\x02", 0, "latin1");
    central.writeUInt16LE(8, 10);
    central.writeUInt32LE(packed.length, 20);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt32LE(at, 42);
    listing.push(central, Buffer.from(name));
    const body = Buffer.concat([local, Buffer.from(name), Buffer.alloc(4), packed]);
    bodies.push(body);
    at += body.length;
  }
  const end = Buffer.alloc(22);
  end.write("PK\x05\x06", 0, "latin1");
  end.writeUInt16LE(Object.keys(entries).length, 10);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...bodies, ...listing, end]);
}

describe("the program", () => {
  const zip = zipped({
    "other.class": "no",
    "redis-server-6.2.6-v5-linux-amd64": "the program",
    "redis-server-6.2.7-linux-arm64": "another",
  });
  const jar = { path: "r/r.jar", sha256: createHash("sha256").update(zip).digest("hex") };
  let mirror: Server;
  let asked: number;
  let runs: StoreMachine["runs"];
  beforeEach(async () => {
    asked = 0;
    runs = (command) => command.startsWith(folder);
    mirror = createServer((_request, response) => {
      asked++;
      response.end(zip);
    });
    await new Promise<void>((resolve) => mirror.listen(0, "127.0.0.1", resolve));
  });
  afterEach(() => {
    mirror.closeAllConnections();
    mirror.close();
  });

  function ensure(platform = "linux-x64", from = jar): Promise<string> {
    const { port } = mirror.address() as AddressInfo;
    const mavenRepository = `http://127.0.0.1:${port}`;
    return ensureStoreBinary({ cache: folder, mavenRepository, platform, runs }, () => {}, from);
  }

  test("is the machine's own where there is one", async () => {
    runs = (command) => command === "valkey-server";
    expect(await ensure()).toBe("valkey-server");
    runs = (command) => ["redis-server", "valkey-server"].includes(command);
    expect(await ensure()).toBe("redis-server");
    expect(asked).toBe(0);
  });

  test("else comes out of the jar, once, and can be run", async () => {
    const program = await ensure();
    expect(readFileSync(program, "utf8")).toBe("the program");
    expect(statSync(program).mode & 0o777).toBe(0o755);
    expect(await ensure()).toBe(program);
    expect(asked).toBe(1);
    expect(readFileSync(await ensure("linux-arm64"), "utf8")).toBe("another");
  });

  test("is not taken when its checksum is another, and nothing is left", async () => {
    await expect(ensure("linux-x64", { ...jar, sha256: "0".repeat(64) })).rejects.toThrow(
      /checksum is .*name a running Redis in REDIS_URL\.$/,
    );
    expect(readdirSync(join(folder, "redis-6.2"))).toEqual([]);
  });

  test("that is not there for this platform, or does not run, is said with what else would do", async () => {
    await expect(ensure("sunos-x64")).rejects.toThrow(/sunos-x64: install redis-server/);
    runs = () => false;
    await expect(ensure()).rejects.toThrow(/does not run on this machine.*REDIS_URL/);
  });
});

test(
  "a restart keeps the data or loses it, on the same port",
  async () => {
    const store = await startStore({ directory: folder, password: 'p "q" \\' });
    const value = async (...set: string[]): Promise<unknown> => {
      const plain = await openPlain(store.port, { password: 'p "q" \\' });
      if (set.length > 0) await plain.ask("SET", ...set);
      const answer = await plain.ask("GET", "k");
      plain.close();
      return answer && String(answer);
    };
    expect(store.url).toBe(`redis://127.0.0.1:${store.port}`);
    expect(await value("k", "v")).toBe("v");
    await store.restart("kept");
    expect(await value()).toBe("v");
    await store.restart("lost");
    expect(await value()).toBeNull();
    store.freeze();
    await store.stop();
    expect(() => store.freeze()).toThrow(/does not run/);
  },
  SLOW_MS,
);

test(
  "it ends with the process that started it, also when that one is killed",
  async () => {
    const program = `
    const { startStore } = await import(${JSON.stringify(join(ROOT, "local/embedded-store.ts"))});
    const store = await startStore({ directory: ${JSON.stringify(folder)} });
    console.log(store.port);`;
    const parent = spawn(process.execPath, ["--input-type=module", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const said = await new Promise<Buffer>((resolve) => parent.stdout.once("data", resolve));
    const socket = connect(Number(String(said)), "127.0.0.1");
    await new Promise((resolve) => socket.once("connect", resolve));
    socket.resume();
    socket.on("error", () => {});
    const ended = new Promise((resolve) => socket.once("close", resolve));
    parent.kill("SIGKILL");
    await ended;
  },
  SLOW_MS,
);

test(
  "one that cannot start says why",
  async () => {
    await expect(startStore({ directory: folder, settings: { "no-such": "1" } })).rejects.toThrow(
      /ended with exit code 1.*no-such/s,
    );
  },
  SLOW_MS,
);
