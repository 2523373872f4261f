/** A directory of Topic files over the in-memory log, made anew for each test, with short times. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { type TOPIC_FILES_TIMING, TopicFiles } from "../../local/topic-files.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler, type TopicStatus } from "../../operator/reconcile.ts";
import { nameOf } from "../../operator/topic-spec.ts";

export let timing: typeof TOPIC_FILES_TIMING;
export let scratch: string;
export let directory: string;
export let log: MemoryLog;
export let files: TopicFiles;
export let statuses: Map<string, TopicStatus>;
export let errors: string[];
export let deleted: string[];
let watching: (() => void)[];

beforeEach(() => {
  timing = { settleMs: 5, confirmMs: 20, retryMs: 20, resyncMs: 60_000 };
  scratch = mkdtempSync(join(tmpdir(), "throughline-topics-"));
  directory = join(scratch, "topics");
  mkdirSync(directory);
  log = new MemoryLog();
  statuses = new Map();
  errors = [];
  deleted = [];
  watching = [];
});

afterEach(async () => {
  await files?.close();
  rmSync(scratch, { recursive: true, force: true });
});

/** What a new process does: it reads the state file and the catalog. */
export async function start(): Promise<void> {
  const catalog = await CatalogWriter.open(log, "test", () => 1);
  const tell = (): void => {
    for (const look of watching) look();
  };
  files = new TopicFiles({
    directory,
    stateFile: join(scratch, "topics.json"),
    clusterUid: "test",
    reconciler: new Reconciler(log, catalog, {
      allowed: { mayName: () => true, mayAdopt: () => false, toAdopt: "" },
    }),
    timing,
    onStatus: (topic, status) => {
      statuses.set(nameOf(topic), status);
      tell();
    },
    onDeleted: (name, policy) => {
      statuses.delete(name);
      deleted.push(`${name} ${policy}`);
      tell();
    },
    onError: (error) => {
      errors.push(error);
      tell();
    },
  });
  await files.start();
}

/** Resolves when what was told makes it so. */
export function until(so: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const look = (): void => {
      if (so()) resolve();
    };
    watching.push(look);
    look();
  });
}

export function write(file: string, content: string | Buffer): void {
  writeFileSync(join(scratch, "part"), content);
  renameSync(join(scratch, "part"), join(directory, file));
}

export function remove(file: string): void {
  rmSync(join(directory, file));
}

/** JSON is YAML. */
export function yaml(name: string, spec: object = {}): string {
  const metadata = { name, namespace: "shop" };
  return JSON.stringify({ apiVersion: "throughline.dev/v1alpha1", kind: "Topic", metadata, spec });
}

export function ready(name: string): boolean {
  return statuses.get(`shop/${name}`)?.ready === true;
}

export async function infoOf(name: string) {
  const found = await log.admin.describeTopics([name]);
  return found.kind === "done" ? found.value.get(name) : undefined;
}
