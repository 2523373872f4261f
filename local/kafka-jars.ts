/**
 * Apache Kafka's own jars, by fixed coordinates and checksums (kafka-jars.json), in a cache outside the
 * checkout: `$XDG_CACHE_HOME/throughline` or `~/.cache/throughline`. Each file lands whole or not at
 * all, so a broken download goes on where it stopped and two starts at once do no harm.
 */
import { createHash } from "node:crypto";
import { mkdirSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import lock from "./kafka-jars.json" with { type: "json" };

const PARALLEL = 6;
const ATTEMPTS = 3;
const ATTEMPT_MS = 120_000;

export interface JarLock {
  readonly kafka: string;
  readonly jars: readonly { readonly path: string; readonly sha256: string }[];
}

/** @returns the folder of the jars. @throws with the next step when they cannot be had. */
export async function ensureKafkaJars(
  cache: string,
  repository: string,
  onProgress: (line: string) => void,
  { kafka, jars }: JarLock = lock,
): Promise<string> {
  const folder = join(cache, `kafka-${kafka}`);
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new Error(
      `The cache ${folder} cannot be made: ${(error as Error).message}. Name another in XDG_CACHE_HOME.`,
    );
  }
  const missing = jars.filter((jar) => !present(join(folder, nameOf(jar.path))));
  if (missing.length === 0) return folder;
  onProgress(`Fetching Apache Kafka ${kafka}: ${missing.length} of ${jars.length} jars`);
  let done = 0;
  const next = [...missing];
  // The first that cannot be had ends the others.
  const failed = new AbortController();
  const work = async (): Promise<void> => {
    for (let jar = next.shift(); jar && !failed.signal.aborted; jar = next.shift()) {
      const target = join(folder, nameOf(jar.path));
      try {
        await fetchJar(`${repository}/${jar.path}`, jar.sha256, target, failed.signal);
      } catch (error) {
        failed.abort();
        throw error;
      }
      done++;
      if (done % 10 === 0 || done === missing.length)
        onProgress(`  ${done} of ${missing.length} jars`);
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, work));
  return folder;
}

async function fetchJar(
  url: string,
  sha256: string,
  target: string,
  stop: AbortSignal,
): Promise<void> {
  let last: unknown;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    try {
      const response = await fetch(url, {
        signal: AbortSignal.any([stop, AbortSignal.timeout(ATTEMPT_MS)]),
      });
      if (!response.ok) throw new Error(`HTTP status ${response.status}`);
      const bytes = Buffer.from(await response.arrayBuffer());
      const found = createHash("sha256").update(bytes).digest("hex");
      if (found !== sha256) throw new Error(`checksum is ${found}, expected ${sha256}`);
      const part = `${target}.${process.pid}.part`;
      writeFileSync(part, bytes);
      renameSync(part, target);
      return;
    } catch (error) {
      last = error;
      if (stop.aborted) break;
    }
  }
  const cause = (last as { cause?: Error }).cause?.message ?? (last as Error).message;
  throw new Error(
    `Cannot fetch ${url} for the embedded Kafka: ${cause}. Connect to the network once, or name a ` +
      "mirror in MAVEN_REPOSITORY, or a running Kafka in KAFKA_BROKERS.",
  );
}

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

function present(path: string): boolean {
  return (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > 0;
}
