/**
 * Apache Kafka's own jars (kafka-jars.json), in a cache outside the checkout: `$XDG_CACHE_HOME/throughline` or
 * `~/.cache/throughline`.
 */
import { join } from "node:path";
import type { PinnedFile } from "./fetch-file.ts";
import { ensureJars } from "./jars.ts";
import lock from "./kafka-jars.json" with { type: "json" };

const NEED = {
  for: "the embedded Kafka",
  mirror: "MAVEN_REPOSITORY",
  instead: "a running Kafka in KAFKA_BROKERS",
};

export interface JarLock {
  readonly kafka: string;
  readonly jars: readonly PinnedFile[];
}

/** @returns the folder of the jars. @throws with the next step when they cannot be had. */
export async function ensureKafkaJars(
  cache: string,
  repository: string,
  onProgress: (line: string) => void,
  { kafka, jars }: JarLock = lock,
): Promise<string> {
  const folder = join(cache, `kafka-${kafka}`);
  const wanted = { what: `Apache Kafka ${kafka}`, folder, files: jars, need: NEED };
  await ensureJars(wanted, repository, onProgress);
  return folder;
}
