/**
 * Apache Kafka's own jars, by fixed coordinates and checksums (kafka-jars.json), in a cache outside the
 * checkout: `$XDG_CACHE_HOME/throughline` or `~/.cache/throughline`.
 */
import { join } from "node:path";
import { fetchFile, isPresent, makeCacheFolder, type PinnedFile } from "./fetch-file.ts";
import lock from "./kafka-jars.json" with { type: "json" };

const PARALLEL = 6;
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
  makeCacheFolder(folder);
  const missing = jars.filter((jar) => !isPresent(join(folder, nameOf(jar.path))));
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
        await fetchFile(repository, jar, target, NEED, failed.signal);
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

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
