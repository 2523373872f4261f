/**
 * The program of the embedded session store: `redis-server` or `valkey-server` of this machine, else
 * Redis from a Java package that carries it for each platform.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { inflateRawSync } from "node:zlib";
import {
  fetchFile,
  isPresent,
  makeCacheFolder,
  type PinnedFile,
  placeWhole,
} from "./fetch-file.ts";

const JAR: PinnedFile = {
  path: "com/github/codemonstur/embedded-redis/1.4.4/embedded-redis-1.4.4.jar",
  sha256: "b56845f0a81aa0b6a0c32a309e69081ee7bdeadba9efff6374b0fe9af230db63",
};
/** What the jar carries, by Node's names of platform and processor. */
const CARRIED: Readonly<Record<string, string>> = {
  "linux-x64": "redis-server-6.2.6-v5-linux-amd64",
  "linux-arm64": "redis-server-6.2.7-linux-arm64",
  "darwin-x64": "redis-server-6.2.6-v5-darwin-amd64",
  "darwin-arm64": "redis-server-6.2.6-v5-darwin-arm64",
};
const INSTEAD = "install redis-server or valkey-server, or name a running Redis in REDIS_URL";

/** What is asked of the machine. */
export interface StoreMachine {
  readonly cache: string;
  readonly mavenRepository: string;
  /** As `linux-x64`. */
  readonly platform: string;
  /** Whether the program says its version. */
  runs(command: string): boolean;
}

/** @returns the path of the program. @throws with the next step when there is none and none can be had. */
export async function ensureStoreBinary(
  machine: StoreMachine,
  onProgress: (line: string) => void,
  jar: PinnedFile = JAR,
): Promise<string> {
  const installed = ["redis-server", "valkey-server"].find(machine.runs);
  if (installed) return installed;
  const entry = CARRIED[machine.platform];
  if (!entry)
    throw new Error(`There is no embedded session store for ${machine.platform}: ${INSTEAD}.`);
  const folder = join(machine.cache, "redis-6.2");
  const program = join(folder, entry);
  makeCacheFolder(folder);
  if (!isPresent(program)) {
    const file = join(folder, "embedded-redis.jar");
    onProgress("Fetching Redis 6.2 (11 MB)");
    await fetchFile(machine.mavenRepository, jar, file, {
      for: "the embedded session store",
      mirror: "MAVEN_REPOSITORY",
      instead: INSTEAD,
    });
    placeWhole(program, unzipped(readFileSync(file), entry), 0o755);
  }
  if (!machine.runs(program))
    throw new Error(`${program} does not run on this machine (it needs OpenSSL 3): ${INSTEAD}.`);
  return program;
}

export function storeMachine(cache: string, mavenRepository: string): StoreMachine {
  return {
    cache,
    mavenRepository,
    platform: `${process.platform}-${process.arch}`,
    runs: (command) => spawnSync(command, ["--version"], { stdio: "ignore" }).status === 0,
  };
}

/** One entry of a zip file, by the central directory at its end. @throws when there is none */
function unzipped(zip: Buffer, wanted: string): Buffer {
  const end = zip.lastIndexOf(Buffer.from("PK\x05\x06"));
  const entries = zip.readUInt16LE(end + 10);
  let at = zip.readUInt32LE(end + 16);
  for (let i = 0; i < entries; i++) {
    const nameBytes = zip.readUInt16LE(at + 28);
    const name = zip.toString("utf8", at + 46, at + 46 + nameBytes);
    if (name === wanted) {
      const packedBytes = zip.readUInt32LE(at + 20);
      const header = zip.readUInt32LE(at + 42);
      const from = header + 30 + zip.readUInt16LE(header + 26) + zip.readUInt16LE(header + 28);
      const packed = zip.subarray(from, from + packedBytes);
      return zip.readUInt16LE(at + 10) === 0 ? packed : inflateRawSync(packed);
    }
    at += 46 + nameBytes + zip.readUInt16LE(at + 30) + zip.readUInt16LE(at + 32);
  }
  throw new Error(`the zip file has no ${wanted}`);
}
