/** The documents in YAML of the README's code blocks. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";

const TEXT = readFileSync(join(import.meta.dirname, "../../../README.md"), "utf8");

export interface ReadmeDocument {
  readonly kind?: string;
  readonly metadata?: { readonly name?: string };
  readonly [field: string]: unknown;
}

/** Those that have this text, parsed. @throws when none has it. */
export function readmeDocuments(text: string): ReadmeDocument[] {
  const blocks = [...TEXT.matchAll(/```yaml\n([\s\S]*?)```/g)].map(([, block]) => block as string);
  const block = blocks.find((one) => one.includes(text));
  if (block === undefined) throw new Error(`README.md has no YAML with "${text}"`);
  return parseAllDocuments(block).map((document) => document.toJS());
}

/** The rows of the table between the comments of this name, cell by cell, without its head. */
export function readmeTable(name: string): string[][] {
  const table = TEXT.split(`<!-- ${name} -->`)[1]?.split(`<!-- /${name} -->`)[0] ?? "";
  const rows = table.trim().split("\n").slice(2);
  return rows.map((row) =>
    row
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}
