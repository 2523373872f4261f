/** The state file: what Topics are in force, so that a restart knows what may not change and what was removed. */
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import type { TopicResource } from "../operator/validate.ts";

export interface InForce {
  readonly topic: TopicResource;
  readonly generation: number;
  readonly file: string;
  /** It has a Kafka topic: immutable fields and partitions bind from then on. */
  readonly owned: boolean;
}

/** @throws with the next step when it is damaged. */
export function readState(path: string): Map<string, InForce> {
  if (!existsSync(path)) return new Map();
  try {
    const entries = JSON.parse(readFileSync(path, "utf8")) as [string, InForce][];
    for (const [name, { topic, generation, file, owned }] of entries) {
      const whole =
        name === `${topic.metadata.namespace}/${topic.metadata.name}` &&
        typeof topic.spec === "object" &&
        Number.isInteger(generation) &&
        typeof file === "string" &&
        typeof owned === "boolean";
      if (!whole) throw new Error(`the entry "${name}" is not whole`);
    }
    return new Map(entries);
  } catch (error) {
    throw new Error(
      `The state file ${path} is damaged (${(error as Error).message}). Restore it; or remove it, and the Topic files are taken as new: nothing is deleted by that, but files removed meanwhile leave their Kafka topics.`,
    );
  }
}

/** Whole or not at all. */
export function writeState(path: string, inForce: ReadonlyMap<string, InForce>): void {
  writeFileSync(`${path}.part`, JSON.stringify([...inForce], null, 2));
  renameSync(`${path}.part`, path);
}
