/**
 * The project's own source as text, for house rules: which file imports what, exports what, names which
 * other file. By patterns, which the formatter makes reliable; generated code is left out.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, extname, join } from "node:path";

export const ROOT = join(import.meta.dirname, "..");

const LEFT_OUT = new Set(["node_modules", "gen", "dist"]);
const CODE = new Set([".ts", ".mjs", ".cjs"]);

export interface Import {
  /** A package, `node:…`, or a file of ours by its path from the root. */
  readonly of: string;
  readonly ours: boolean;
  readonly typesOnly: boolean;
  /** Undefined: all of it (a namespace, or an import at run time). */
  readonly names: readonly string[] | undefined;
}

export interface Export {
  readonly name: string;
  readonly isType: boolean;
}

export interface SourceFile {
  /** From the root, with `/`. */
  readonly path: string;
  /** The folder at the root. */
  readonly room: string;
  readonly text: string;
  /** Without comments. Text in strings stays. */
  readonly code: string;
  readonly lines: number;
  readonly imports: readonly Import[];
  readonly exports: readonly Export[];
  /** Files of ours that a string here names, relative to this file or to the root. */
  readonly mentions: readonly string[];
}

export function sourceFiles(): SourceFile[] {
  return codeUnder("").map(sourceFile);
}

function codeUnder(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    if (entry.name.startsWith(".") || LEFT_OUT.has(entry.name)) return [];
    const path = folder ? `${folder}/${entry.name}` : entry.name;
    if (entry.isDirectory()) return codeUnder(path);
    return CODE.has(extname(entry.name)) ? [path] : [];
  });
}

function sourceFile(path: string): SourceFile {
  const text = readFileSync(join(ROOT, path), "utf8");
  const code = text.replace(/^\s*\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  return {
    path,
    room: path.split("/")[0] as string,
    text,
    code,
    lines: text.split("\n").length - 1,
    imports: importsOf(path, code),
    exports: exportsOf(code),
    mentions: mentionsIn(path, code),
  };
}

function importsOf(path: string, code: string): Import[] {
  const found: Import[] = [];
  const add = (specifier: string, typesOnly: boolean, names: Import["names"]): void => {
    const ours = specifier.startsWith(".");
    found.push({ of: ours ? join(dirname(path), specifier) : specifier, ours, typesOnly, names });
  };
  const declared = /^(?:import|export) (type )?([^;"'()=]*?) from "([^"]+)"/gm;
  for (const [, type, clause = "", specifier = ""] of code.matchAll(declared)) {
    const braces = /\{([^}]*)\}/.exec(clause)?.[1] ?? "";
    const listed = braces.split(",").flatMap((name) => name.trim() || []);
    const onlyTypes = listed.length > 0 && listed.every((name) => name.startsWith("type "));
    const names = listed.map((name) => name.replace(/^type /, "").replace(/ as .*/, ""));
    add(specifier, type !== undefined || onlyTypes, clause.startsWith("*") ? undefined : names);
  }
  for (const [, specifier = ""] of code.matchAll(/\b(?:import|require)\(\s*"([^"]+)"/g)) {
    add(specifier, false, undefined);
  }
  for (const [, specifier = ""] of code.matchAll(/^import "([^"]+)"/gm)) add(specifier, false, []);
  return found;
}

function exportsOf(code: string): Export[] {
  const declared = code.matchAll(
    /^export (?:abstract |async )*(const|let|function\*?|class|enum|interface|type) (\w+)/gm,
  );
  return Array.from(declared, ([, kind, name]) => ({
    name: name as string,
    isType: kind === "interface" || kind === "type",
  }));
}

function mentionsIn(path: string, code: string): string[] {
  const strings = code.matchAll(/["'`]([\w./-]+\.(?:ts|mjs|cjs))["'`]/g);
  return Array.from(strings, ([, name]) => name as string).flatMap((name) => {
    const beside = join(dirname(path), name);
    return [beside, name].filter((one) => one !== path && existsSync(join(ROOT, one)));
  });
}
