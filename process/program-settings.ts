/** Settings that every program of Throughline has, beside those of Kafka. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Address, Outside, SettingReader } from "./settings.ts";

export const HEALTH_LISTEN = {
  value: "[host]:port",
  help: "plain HTTP: /livez, /readyz, /metrics; off by default",
} as const;

export const LOG_LEVEL = {
  value: "level",
  help: "trace, debug, info, warn, error, silent",
  default: "info",
} as const;

const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

/** @param program what only config.ts reads. */
export function outsideOf(program: Pick<Outside, "args" | "environment">): Outside {
  return { ...program, hostname, readFile: (path) => readFileSync(path) };
}

export function healthListenOf(read: SettingReader<"health-listen">): Address | undefined {
  const text = read.text("health-listen");
  return text === undefined ? undefined : read.listenAddress("health-listen", text);
}

export function logLevelOf(read: SettingReader<"log-level">): string {
  return read.oneOf("log-level", LEVELS);
}

export function deploymentIdOf(read: SettingReader<"deployment-id">): string {
  const id = read.required("deployment-id");
  return read.matching("deployment-id", id, /^[a-z0-9-]{1,40}$/, "1 to 40 of a-z, 0-9 and -");
}

/** Checks a value of the setting that is a namespace's name. */
export function namespaceOf<Name extends string>(
  read: SettingReader<Name>,
  name: Name,
  value: string,
): string {
  const pattern = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
  return read.matching(name, value, pattern, "a Kubernetes namespace name");
}
