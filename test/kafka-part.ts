/**
 * One Kafka for all test files that do it no harm: a broker costs more to start than most of them do with it.
 * Who kills, freezes or fills a broker, or needs three of them, starts one of its own.
 *
 * A file's part of it is called like the file, and so is all that is made in it (topics, groups, transactional
 * ids): another name is refused here, so that no file can meet what is another's.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { expect } from "@jest/globals";
import { Kafka, logLevel } from "kafkajs";
import { openKafkaLog } from "../kafka/kafka-log.ts";
import type { Log } from "../kafka/log.ts";
import type { AppendLimits } from "../kafka/partition-appender.ts";
import { type EmbeddedKafka, kafkaTools } from "../local/embedded-kafka.ts";
import { ALL_FILES_KAFKA, startKafkaOfAllFiles } from "./kafka-of-all-files.ts";

export class KafkaPart {
  /** Fit for a deployment id and a namespace. */
  readonly name = nameOf(expect.getState().testPath ?? "");
  readonly brokers: readonly string[];
  /** Of this file alone, and gone with its part. */
  readonly folder: string;
  /** Runs one of Kafka's own tools. */
  readonly java: EmbeddedKafka["java"];
  readonly #end: () => Promise<void>;

  /** @param end after which the Kafka is not needed any more. */
  constructor(
    folder: string,
    brokers: readonly string[],
    java: EmbeddedKafka["java"],
    end: () => Promise<void>,
  ) {
    this.folder = folder;
    this.brokers = brokers;
    this.java = java;
    this.#end = end;
  }

  /** Of the Kafka of this run of all tests; a file that runs alone starts one. */
  static async open(): Promise<KafkaPart> {
    const folder = folderOfPart();
    const running = process.env[ALL_FILES_KAFKA];
    if (running !== undefined) {
      return new KafkaPart(folder, [running], await kafkaTools(folder), async () => {});
    }
    const { brokers, java, stop } = await startKafkaOfAllFiles(folder);
    return new KafkaPart(folder, brokers, java, stop);
  }

  /** A name in this part. */
  own(name: string): string {
    return `${this.name}.${name}`;
  }

  openLog(limits: Partial<AppendLimits> = {}): Log {
    const log = openKafkaLog({ brokers: this.brokers, clientId: this.name }, limits);
    const admin = this.#checked(log.admin, { createTopic: ({ name }) => [name] });
    const groups = this.#checked(log.groups, { commit: (group) => [group] });
    return this.#checked(
      { ...log, admin, groups },
      { openFencedWriter: ({ name }) => [name], openTransactionalWriter: (id) => [id] },
    );
  }

  /** The witness. */
  kafkajs(): Kafka {
    const kafka = new Kafka({ brokers: [...this.brokers], logLevel: logLevel.NOTHING });
    const checked = this.#checked(kafka, {
      consumer: ({ groupId }) => [groupId],
      producer: (config) => (config?.transactionalId ? [config.transactionalId] : []),
    });
    const admin: Kafka["admin"] = (config) =>
      this.#checked(kafka.admin(config), {
        createTopics: ({ topics }) => topics.map(({ topic }) => topic),
        deleteTopics: ({ topics }) => topics,
        deleteTopicRecords: ({ topic }) => [topic],
        deleteGroups: (groups) => groups,
      });
    return new Proxy(checked, {
      get: (target, key) => (key === "admin" ? admin : Reflect.get(target, key, target)),
    });
  }

  async close(): Promise<void> {
    await this.#end();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** @param names by method: what a call of it makes or removes. */
  #checked<T extends object>(
    of: T,
    names: {
      [M in keyof T]?: T[M] extends (...given: infer A) => unknown
        ? (...given: A) => readonly string[]
        : never;
    },
  ): T {
    return new Proxy(of, {
      get: (target, key) => {
        const value = Reflect.get(target, key, target);
        if (typeof value !== "function") return value;
        const named = names[key as keyof T] as ((...given: unknown[]) => string[]) | undefined;
        return (...given: unknown[]) => {
          for (const name of named?.(...given) ?? []) this.#mustOwn(name);
          return value.apply(target, given);
        };
      },
    });
  }

  #mustOwn(name: string): void {
    if (name.startsWith(`${this.name}.`) || name.startsWith(`_throughline.${this.name}.`)) return;
    throw new Error(
      `"${name}" may be another test file's, for all share one Kafka: begin it with "${this.name}." (own()).`,
    );
  }
}

export function folderOfPart(): string {
  return mkdtempSync(join(tmpdir(), "throughline-part-"));
}

/** "test/story/doors.test.ts" is "story-doors". */
function nameOf(testPath: string): string {
  const name = relative(import.meta.dirname, testPath).replace(/\.test\.ts$/, "");
  return name.replaceAll("/", "-");
}
