/**
 * A directory as the source of Topics: every *.yaml in it, followed while it runs. Adding, editing and
 * removing a document is apply, edit and delete. A bad document is one error that names file, field and
 * fix; the last good one of that Topic stays in force, and the others are unharmed.
 *
 * What was accepted is kept in a state file, so that immutable fields and shrinking partitions are
 * refused over restarts too, and a file removed while nothing ran is a deletion.
 */
import { createHash } from "node:crypto";
import {
  existsSync,
  type FSWatcher,
  readdirSync,
  readFileSync,
  renameSync,
  watch,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { Reconciler, TopicStatus } from "../operator/reconcile.ts";
import { nameOf } from "../operator/topic-spec.ts";
import { type TopicResource, TopicValidator } from "../operator/validate.ts";

const SETTLE_MS = 100;
const RETRY_MS = 2000;
const CLUSTER_UID = "local";

interface Accepted {
  readonly topic: TopicResource;
  readonly generation: number;
}

export interface TopicFilesOptions {
  readonly directory: string;
  readonly stateFile: string;
  readonly reconciler: Reconciler;
  readonly onStatus: (name: string, status: TopicStatus) => void;
  readonly onError: (message: string) => void;
}

export class TopicFiles {
  readonly #options: TopicFilesOptions;
  readonly #validator = new TopicValidator();
  readonly #accepted: Map<string, Accepted>;
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> = Promise.resolve();
  #errors = new Set<string>();
  #closed = false;

  constructor(options: TopicFilesOptions) {
    this.#options = options;
    this.#accepted = readState(options.stateFile);
  }

  /** Applies every document once, then follows the directory. */
  async start(): Promise<void> {
    this.#watcher = watch(this.#options.directory, () => this.#soon(SETTLE_MS));
    await this.#scan();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watcher?.close();
    clearTimeout(this.#timer);
    await this.#working;
  }

  #soon(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => void this.#scan(), ms);
  }

  #scan(): Promise<void> {
    this.#working = this.#working.then(() => this.#reconcile());
    return this.#working;
  }

  async #reconcile(): Promise<void> {
    const { reconciler, onStatus } = this.#options;
    const errors = new Set<string>();
    const { found, unreadable } = this.#read(errors);
    let again = false;
    for (const [name, topic] of found) {
      const before = this.#accepted.get(name);
      const same = before && JSON.stringify(before.topic) === JSON.stringify(topic);
      const generation = (before?.generation ?? 0) + (same ? 0 : 1);
      const uid = createHash("sha256").update(name).digest("hex").slice(0, 32);
      const status = await reconciler.apply(topic, { uid, generation, clusterUid: CLUSTER_UID });
      onStatus(name, status);
      again ||= !status.ready;
      this.#accepted.set(name, { topic, generation });
    }
    // A file that cannot be read may hold any Topic: nothing is deleted on its account (P9).
    for (const [name, { topic }] of unreadable ? [] : [...this.#accepted]) {
      if (found.has(name)) continue;
      try {
        await reconciler.delete(name, topic.spec.deletionPolicy ?? "Retain");
        this.#accepted.delete(name);
      } catch (error) {
        errors.add(`${name}: cannot be deleted yet: ${(error as Error).message}`);
        again = true;
      }
    }
    writeState(this.#options.stateFile, this.#accepted);
    for (const error of errors) if (!this.#errors.has(error)) this.#options.onError(error);
    this.#errors = errors;
    if (again) this.#soon(RETRY_MS);
  }

  #read(errors: Set<string>): { found: Map<string, TopicResource>; unreadable: boolean } {
    const { directory } = this.#options;
    const found = new Map<string, TopicResource>();
    const files = new Map<string, string>();
    let unreadable = false;
    for (const file of readdirSync(directory).sort()) {
      if (!/\.ya?ml$/.test(file)) continue;
      const documents = parseAllDocuments(readFileSync(join(directory, file), "utf8"));
      for (const document of "empty" in documents ? [] : documents) {
        const problem = document.errors[0];
        if (problem) {
          errors.add(`${file}: not YAML: ${problem.message.split("\n")[0]}`);
          unreadable = true;
          continue;
        }
        const value: unknown = document.toJS();
        if (value === null) continue;
        const meta = (value as { metadata?: { name?: string; namespace?: string } }).metadata;
        const name = `${meta?.namespace}/${meta?.name}`;
        const before = this.#accepted.get(name);
        const result = this.#validator.validate(value, before?.topic.spec);
        if ("errors" in result) {
          for (const error of result.errors) errors.add(`${file}: ${error}`);
          if (before) found.set(name, before.topic);
          else unreadable = true;
          continue;
        }
        const first = files.get(name);
        if (first) {
          errors.add(`${file}: metadata.name: Topic ${name} is in ${first} already; remove one.`);
          continue;
        }
        files.set(name, file);
        found.set(nameOf(result.topic), result.topic);
      }
    }
    return { found, unreadable };
  }
}

function readState(file: string): Map<string, Accepted> {
  if (!existsSync(file)) return new Map();
  return new Map(JSON.parse(readFileSync(file, "utf8")) as [string, Accepted][]);
}

function writeState(file: string, accepted: ReadonlyMap<string, Accepted>): void {
  writeFileSync(`${file}.part`, JSON.stringify([...accepted], null, 2));
  renameSync(`${file}.part`, file);
}
