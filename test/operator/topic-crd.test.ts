/** The CRD: what is checked in is what the schema makes, and an API server would take it. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { TOPIC_CRD } from "../../operator/topic-crd.ts";
import { TOPIC_RULES } from "../../operator/topic-schema.ts";
import { TOPIC_CRD_FILE, topicCrdYaml } from "../../tools/generate-crds.ts";

const root = join(import.meta.dirname, "..", "..");
const schema = TOPIC_CRD.spec.versions[0]?.schema.openAPIV3Schema;

type Schema = {
  readonly type?: string;
  readonly description?: string;
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

const spec = schema?.properties.spec as unknown as Schema;
const status = schema?.properties.status as unknown as Schema;
const schemas = [...all("spec", spec), ...all("status", status)];

test("crds/ equals a fresh generation; run npm run gen after a change of operator/topic-schema.ts", () => {
  expect(readFileSync(join(root, TOPIC_CRD_FILE), "utf8")).toBe(topicCrdYaml());
});

test("the schema is structural: every part has one type", () => {
  expect(schemas.filter(([, part]) => typeof part.type !== "string")).toEqual([]);
});

test("every field says what it is, for kubectl explain", () => {
  const silent = schemas.filter(([path, part]) => !/(\[\]|\.\*)$/.test(path) && !part.description);
  expect(silent.map(([path]) => path)).toEqual([]);
});

test("everything that a rule may read has a bound, so that its cost has one", () => {
  const bound = { string: ["maxLength", "enum"], array: ["maxItems"] } as Record<string, string[]>;
  const unbounded = [...all("spec", spec)].filter(([, { type, ...part }]) => {
    const wanted = part.additionalProperties ? ["maxProperties"] : (bound[type ?? ""] ?? []);
    return wanted.length > 0 && !wanted.some((key) => key in part);
  });
  expect(unbounded.map(([path]) => path)).toEqual([]);
});

test("the rules are those that are checked here, each with a field of the spec", () => {
  const rules = spec["x-kubernetes-validations"] as { rule: string; fieldPath: string }[];
  expect(rules.map(({ rule }) => rule)).toEqual(TOPIC_RULES.map(({ rule }) => rule));
  for (const { fieldPath } of rules) expect(spec.properties).toHaveProperty(fieldPath.slice(1));
});

test("a rule guards every optional field that it reads by has()", () => {
  for (const { rule } of TOPIC_RULES) {
    const read = new Set([...rule.matchAll(/\b((?:self|oldSelf)\.[a-zA-Z]+)/g)].map((m) => m[1]));
    for (const field of read) expect([rule, rule.includes(`has(${field})`)]).toEqual([rule, true]);
  }
});

test("a spec is always there, so that rules on changes cannot be stepped past by taking it away", () => {
  expect(spec.default).toEqual({});
});
