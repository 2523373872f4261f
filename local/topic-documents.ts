/**
 * The documents of a directory's *.yaml files, as far as they can be read. What cannot be read is said by
 * file; it may hold any Topic. Whether a document is a good Topic is judged by `topic-files.ts`.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";

const MAX_FILE_BYTES = 1 << 20;

export interface TopicDocument {
  readonly file: string;
  /** `<namespace>/<name>`; undefined when it does not say. */
  readonly name: string | undefined;
  readonly value: unknown;
}

export interface TopicDocuments {
  readonly documents: readonly TopicDocument[];
  /** By file: what is wrong and what to do. */
  readonly unreadable: ReadonlyMap<string, string>;
}

/** @throws when the directory cannot be read. */
export function readTopicDocuments(directory: string): TopicDocuments {
  const documents: TopicDocument[] = [];
  const unreadable = new Map<string, string>();
  for (const file of readdirSync(directory).sort()) {
    // Hidden ones are an editor's own.
    if (file.startsWith(".") || !/\.ya?ml$/.test(file)) continue;
    try {
      documents.push(...parse(file, readText(join(directory, file))));
    } catch (error) {
      unreadable.set(file, (error as Error).message);
    }
  }
  return { documents, unreadable };
}

/** @throws saying what to do. */
function readText(path: string): string {
  let bytes: Buffer;
  try {
    const { size } = statSync(path);
    if (size > MAX_FILE_BYTES)
      throw new Error(`it has ${size} bytes, more than 1 MiB; split or correct it.`);
    bytes = readFileSync(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === undefined) throw error;
    throw new Error(`cannot be read (${code}); correct or remove it.`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("is not UTF-8 text; save it as UTF-8.");
  }
}

/** @throws naming the place. Anchors that unfold without end are refused by the parser's own limit. */
function parse(file: string, text: string): TopicDocument[] {
  const documents = parseAllDocuments(text);
  if ("empty" in documents) return [];
  return documents.flatMap((document) => {
    const problem = document.errors[0];
    if (problem) throw new Error(`is not YAML: ${problem.message.split("\n")[0]}`);
    let value: unknown;
    try {
      value = document.toJS();
    } catch (error) {
      throw new Error(`cannot be taken: ${(error as Error).message}.`);
    }
    return value === null ? [] : [{ file, name: nameIn(value), value }];
  });
}

function nameIn(value: unknown): string | undefined {
  const { metadata } = value as { metadata?: { namespace?: unknown; name?: unknown } | null };
  const { namespace, name } = metadata ?? {};
  return typeof namespace === "string" && typeof name === "string"
    ? `${namespace}/${name}`
    : undefined;
}
