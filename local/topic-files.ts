/**
 * A directory as the source of Topics: every *.yaml in it, followed while it runs. Adding, editing and
 * removing a document is apply, edit and delete. A bad document is one error that names file, field and
 * fix; the last good one of that Topic stays in force, and the others are unharmed.
 *
 * Nothing is deleted that its owner did not ask to delete (P9): a Topic whose document is gone is deleted
 * only when every file can be read, and when it is still gone at a second look (editors write a file by
 * removing it first). What is in force is kept in a state file, so that immutable fields and shrinking
 * partitions are refused over restarts too, and a file removed while nothing ran is a deletion.
 */
import { createHash } from "node:crypto";
import { type FSWatcher, statSync, watch } from "node:fs";
import { annotationOf, DELETE_ADOPTED } from "../operator/annotations.ts";
import type { Reconciler, TopicStatus } from "../operator/reconcile.ts";
import { type TopicResource, TopicValidator } from "../operator/validate.ts";
import { readTopicDocuments, type TopicDocument } from "./topic-documents.ts";
import { type InForce, readState, writeState } from "./topic-state.ts";

export const TOPIC_FILES_TIMING = {
  /** From the last change in the directory to the look at it. */
  settleMs: 100,
  /** Between the first and the second look at a Topic that is gone. */
  confirmMs: 500,
  /** While a Topic is not Ready. */
  retryMs: 2000,
  /** Otherwise: Kafka may have changed under a Topic. */
  resyncMs: 30_000,
};

export interface TopicFilesOptions {
  readonly directory: string;
  readonly stateFile: string;
  readonly clusterUid: string;
  readonly reconciler: Reconciler;
  readonly timing?: typeof TOPIC_FILES_TIMING;
  /** `changed` says that its document is new or another. */
  readonly onStatus: (topic: TopicResource, status: TopicStatus, changed: boolean) => void;
  readonly onDeleted: (name: string, policy: "Retain" | "Delete") => void;
  /** Each error once, until it is corrected. */
  readonly onError: (message: string) => void;
}

interface Wanted {
  readonly topic: TopicResource;
  readonly file: string;
}

export class TopicFiles {
  readonly #options: TopicFilesOptions;
  readonly #timing: typeof TOPIC_FILES_TIMING;
  readonly #validator = new TopicValidator();
  readonly #inForce: Map<string, InForce>;
  /** Since when a Topic has no document. */
  readonly #gone = new Map<string, number>();
  #watcher: { readonly watcher: FSWatcher; readonly inode: number } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> = Promise.resolve();
  #errors = new Set<string>();
  #closed = false;

  /** @throws when the state file is damaged. */
  constructor(options: TopicFilesOptions) {
    this.#options = options;
    this.#timing = options.timing ?? TOPIC_FILES_TIMING;
    this.#inForce = readState(options.stateFile);
  }

  /** Applies every document once, then follows the directory. @throws when there is no directory. */
  async start(): Promise<void> {
    try {
      this.#watch();
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      throw new Error(
        `The directory of Topic files ${this.#options.directory} cannot be read (${code}); make it, or name another.`,
      );
    }
    await this.#scan();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watcher?.watcher.close();
    clearTimeout(this.#timer);
    await this.#working;
  }

  #watch(): void {
    const { directory } = this.#options;
    const inode = statSync(directory).ino;
    if (this.#watcher?.inode === inode) return;
    this.#watcher?.watcher.close();
    this.#watcher = undefined;
    const watcher = watch(directory, () => this.#soon(this.#timing.settleMs));
    watcher.on("error", () => this.#soon(this.#timing.settleMs));
    this.#watcher = { watcher, inode };
  }

  #soon(ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => void this.#scan(), ms);
  }

  #scan(): Promise<void> {
    this.#working = this.#working.then(async () => {
      if (this.#closed) return;
      const errors: string[] = [];
      const nextMs = await this.#reconcile(errors);
      for (const error of errors) if (!this.#errors.has(error)) this.#options.onError(error);
      this.#errors = new Set(errors);
      this.#soon(nextMs);
    });
    return this.#working;
  }

  /** @returns when to look again. */
  async #reconcile(errors: string[]): Promise<number> {
    const { retryMs, resyncMs } = this.#timing;
    try {
      this.#watch();
      const { documents, unreadable } = readTopicDocuments(this.#options.directory);
      for (const [file, problem] of unreadable) errors.push(`${file}: ${problem}`);
      const { wanted, nameless } = this.#judge(documents, errors);
      for (const [name, before] of this.#inForce) {
        if (!wanted.has(name) && unreadable.has(before.file)) wanted.set(name, before);
      }
      const waitsMs = await this.#deleteGone(wanted, [...unreadable.keys(), ...nameless], errors);
      let allReady = true;
      for (const [name, document] of wanted) {
        const ready = await this.#apply(name, document);
        allReady &&= ready;
      }
      return Math.min(waitsMs, allReady ? resyncMs : retryMs);
    } catch (error) {
      // The directory is away, or the state cannot be written: nothing is deleted on that account.
      errors.push(`Topic files: ${(error as Error).message}; trying again.`);
      return retryMs;
    }
  }

  /** Which document speaks for each Topic; of a bad one, the last that was good. */
  #judge(
    documents: readonly TopicDocument[],
    errors: string[],
  ): { wanted: Map<string, Wanted>; nameless: string[] } {
    const wanted = new Map<string, Wanted>();
    const nameless: string[] = [];
    const speakers = new Map<string, TopicDocument>();
    for (const document of documents) {
      const { file, name, value } = document;
      if (name === undefined) {
        nameless.push(file);
        for (const error of this.#errorsOf(value)) errors.push(`${file}: ${error}`);
        continue;
      }
      const other = speakers.get(name);
      // A copy does not take over from the file that is in force.
      const incumbent = this.#inForce.get(name)?.file;
      const yields = other && (other.file === incumbent || file !== incumbent);
      if (other) {
        const [loser, winner] = yields ? [file, other.file] : [other.file, file];
        errors.push(`${loser}: Topic ${name} is in ${winner} already; remove one of them.`);
      }
      if (!yields) speakers.set(name, document);
    }
    for (const [name, { file, value }] of speakers) {
      const before = this.#inForce.get(name);
      const result = this.#validator.validate(value, before?.owned ? before.topic.spec : undefined);
      if ("topic" in result) wanted.set(name, { topic: result.topic, file });
      else {
        const stays = before ? ` Topic ${name} stays as it was.` : "";
        for (const error of result.errors) errors.push(`${file}: ${error}${stays}`);
        if (before) wanted.set(name, before);
      }
    }
    return { wanted, nameless };
  }

  #errorsOf(value: unknown): readonly string[] {
    const result = this.#validator.validate(value);
    return "errors" in result ? result.errors : [];
  }

  /** @returns when the next second look is due. */
  async #deleteGone(
    wanted: ReadonlyMap<string, Wanted>,
    doubtful: readonly string[],
    errors: string[],
  ): Promise<number> {
    const nowMs = performance.now();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const name of wanted.keys()) this.#gone.delete(name);
    for (const [name, { topic }] of this.#inForce) {
      if (wanted.has(name)) continue;
      if (doubtful.length > 0) {
        errors.push(
          `Topic ${name}: no document has it any more; it is deleted when ${doubtful.join(", ")} can be read.`,
        );
        continue;
      }
      const sinceMs = this.#gone.get(name) ?? nowMs;
      this.#gone.set(name, sinceMs);
      const leftMs = sinceMs + this.#timing.confirmMs - nowMs;
      if (leftMs > 0) {
        nextMs = Math.min(nextMs, leftMs);
        continue;
      }
      const policy = topic.spec.deletionPolicy ?? "Retain";
      const why = await this.#options.reconciler.delete(
        name,
        policy,
        annotationOf(topic, DELETE_ADOPTED),
      );
      if (why) {
        errors.push(`Topic ${name} cannot be deleted yet: ${why.message}`);
        nextMs = Math.min(nextMs, this.#timing.retryMs);
        continue;
      }
      this.#gone.delete(name);
      this.#inForce.delete(name);
      writeState(this.#options.stateFile, this.#inForce);
      this.#options.onDeleted(name, policy);
    }
    return nextMs;
  }

  /** @returns whether it is Ready. */
  async #apply(name: string, { topic, file }: Wanted): Promise<boolean> {
    const { reconciler, clusterUid, stateFile, onStatus } = this.#options;
    const before = this.#inForce.get(name);
    const same = before && JSON.stringify(before.topic) === JSON.stringify(topic);
    const generation = (before?.generation ?? 0) + (same ? 0 : 1);
    const uid = createHash("sha256").update(name).digest("hex").slice(0, 32);
    const status = await reconciler.apply(topic, { uid, generation, clusterUid });
    const owned = before?.owned === true || status.topicId !== "";
    if (!same || before.owned !== owned || before.file !== file) {
      this.#inForce.set(name, { topic, generation, file, owned });
      writeState(stateFile, this.#inForce);
    }
    onStatus(topic, status, !same);
    return status.ready;
  }
}
