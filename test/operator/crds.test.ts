/** The CRDs: what is checked in is what the schemas make, and an API server would take it. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "@jest/globals";
import { evaluate } from "@marcbachmann/cel-js";
import { OUTBOX_CRD } from "../../operator/outbox-crd.ts";
import { OUTBOX_RULES } from "../../operator/outbox-schema.ts";
import { TOPIC_CRD } from "../../operator/topic-crd.ts";
import { TOPIC_RULES } from "../../operator/topic-schema.ts";
import { CRDS } from "../../tools/generate-crds.ts";

const root = join(import.meta.dirname, "..", "..");

type Schema = {
  readonly type?: string;
  readonly description?: string;
  readonly required?: readonly string[];
  readonly properties?: Record<string, Schema>;
  readonly items?: Schema;
  readonly additionalProperties?: Schema;
  readonly [key: string]: unknown;
};

/** Every schema below, with its path. */
function* all(path: string, schema: Schema): Generator<[string, Schema]> {
  yield [path, schema];
  for (const [name, inner] of Object.entries(schema.properties ?? {}))
    yield* all(`${path}.${name}`, inner);
  if (schema.items) yield* all(`${path}[]`, schema.items);
  if (schema.additionalProperties) yield* all(`${path}.*`, schema.additionalProperties);
}

function schemaOf(crd: typeof TOPIC_CRD): Schema {
  return crd.spec.versions[0]?.schema.openAPIV3Schema as unknown as Schema;
}

test("crds/ equals a fresh generation; run npm run gen after a change of operator/*-schema.ts", () => {
  expect(readdirSync(join(root, "crds")).map((file) => `crds/${file}`)).toEqual(
    [...CRDS.keys()].toSorted(),
  );
  for (const [file, text] of CRDS) expect(readFileSync(join(root, file), "utf8")).toBe(text);
});

describe.each([
  { kind: "Topic", crd: TOPIC_CRD, rules: TOPIC_RULES },
  { kind: "Outbox", crd: OUTBOX_CRD, rules: OUTBOX_RULES },
])("$kind", ({ crd, rules }) => {
  const { spec, status } = schemaOf(crd).properties as { spec: Schema; status: Schema };
  const schemas = [...all("spec", spec), ...all("status", status)];

  test("the schema is structural: every part has one type", () => {
    expect(schemas.filter(([, part]) => typeof part.type !== "string")).toEqual([]);
  });

  test("every field says what it is, for kubectl explain", () => {
    const silent = schemas.filter(
      ([path, part]) => !/(\[\]|\.\*)$/.test(path) && !part.description,
    );
    expect(silent.map(([path]) => path)).toEqual([]);
  });

  test("everything that a rule may read has a bound, so that its cost has one", () => {
    const bound = { string: ["maxLength", "enum"], array: ["maxItems"] } as Record<
      string,
      string[]
    >;
    const unbounded = [...all("spec", spec)].filter(([, { type, ...part }]) => {
      const wanted = part.additionalProperties ? ["maxProperties"] : (bound[type ?? ""] ?? []);
      return wanted.length > 0 && !wanted.some((key) => key in part);
    });
    expect(unbounded.map(([path]) => path)).toEqual([]);
  });

  test("the rules are those that are checked here, each with a field of the spec", () => {
    const made = spec["x-kubernetes-validations"] as { rule: string; fieldPath: string }[];
    expect(made.map(({ rule }) => rule)).toEqual(rules.map(({ rule }) => rule));
    for (const { fieldPath } of made) expect(spec.properties).toHaveProperty(fieldPath.slice(1));
  });

  test("a rule guards every optional field that it reads by has()", () => {
    for (const { rule } of rules) {
      const read = [...rule.matchAll(/\b((?:self|oldSelf)(?:\.[a-zA-Z]+)+)\b(?!\()/g)];
      for (const [field] of read)
        for (const optional of optionalIn(field))
          expect([rule, rule.includes(`has(${optional})`)]).toEqual([rule, true]);
    }
  });

  /** Of a path that a rule reads, its parts that may be absent. */
  function optionalIn(path: string): string[] {
    const [self = "", ...names] = path.split(".");
    const optional: string[] = [];
    let schema: Schema | undefined = spec;
    for (const [i, name] of names.entries()) {
      if (!schema?.properties?.[name]) break;
      if (!schema.required?.includes(name))
        optional.push([self, ...names.slice(0, i + 1)].join("."));
      schema = schema.properties[name];
    }
    return optional;
  }

  test("a spec is always there, so that rules on changes cannot be stepped past by taking it away", () => {
    const isNeeded = schemaOf(crd).required?.includes("spec") ?? false;
    expect(isNeeded || JSON.stringify(spec["default"]) === "{}").toBe(true);
  });
});

test.each([
  ["another Secret", { secret: { name: "b" } }, { secret: { name: "a" } }, /immutable/],
  ["another key", { secret: { name: "a", key: "x" } }, { secret: { name: "a" } }, /immutable/],
  ["the preset key, named", { secret: { name: "a", key: "uri" } }, { secret: { name: "a" } }, null],
  ["other TLS", { secret: { name: "a" }, tls: true }, { secret: { name: "a" } }, null],
  [
    "authorities without TLS",
    { secret: { name: "a" }, tls: false, caSecret: { name: "c" } },
    { secret: { name: "a" } },
    /caSecret is for TLS/,
  ],
])("an Outbox's database: %s", (_, database, before, words) => {
  const broken = OUTBOX_RULES.filter(
    ({ rule }) => !evaluate(rule, { self: { database }, oldSelf: { database: before } }),
  );
  expect(broken.map(({ message }) => message)).toEqual(words ? [expect.stringMatching(words)] : []);
});
