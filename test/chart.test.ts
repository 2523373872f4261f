/** The chart's files agree with each other and with what they are made of. How it renders: test/cluster/. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { expect, test } from "@jest/globals";
import { parse } from "yaml";
import { chartValuesMarkdown } from "../tools/chart-values.ts";
import { CRDS } from "../tools/generate-crds.ts";

const root = join(import.meta.dirname, "..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const inChart = (path: string): string => read(`charts/throughline/${path}`);

interface Schema {
  readonly $ref?: string;
  readonly type?: unknown;
  readonly properties?: Record<string, Schema>;
  readonly additionalProperties?: boolean | Schema;
  readonly items?: Schema;
  readonly definitions?: Record<string, Schema>;
}

const schema = JSON.parse(inChart("values.schema.json")) as Schema;

function resolved(part: Schema): Schema {
  const name = part.$ref?.replace("#/definitions/", "");
  return name === undefined ? part : (schema.definitions?.[name] as Schema);
}

/** Every schema below, with its path. */
function* all(path: string, part: Schema): Generator<[string, Schema]> {
  yield [path, part];
  const inner = {
    ...part.properties,
    ...part.definitions,
    ...(part.items && { "[]": part.items }),
  };
  for (const [name, one] of Object.entries(inner)) yield* all(`${path}.${name}`, one);
}

test("its CustomResourceDefinitions equal a fresh generation; run npm run gen", () => {
  expect(readdirSync(join(root, "charts/throughline/files/crds")).toSorted()).toEqual(
    [...CRDS.keys()].map((file) => basename(file)).toSorted(),
  );
  for (const [file, text] of CRDS) expect(inChart(`files/${file}`)).toBe(text);
});

test("its README's table equals values.yaml; node tools/chart-values.ts prints it", () => {
  const table = /<!-- values -->\n([\s\S]*?)\n<!-- \/values -->/.exec(inChart("README.md"))?.[1];
  expect(table).toBe(chartValuesMarkdown());
});

test("every value has a schema, and every property of the schema a value", () => {
  const values = parse(inChart("values.yaml")) as Record<string, unknown>;
  // Helm gives it to charts that are a part of another.
  expect(differences("", values, { ...schema.properties, global: undefined })).toEqual([]);
});

function differences(
  path: string,
  values: Readonly<Record<string, unknown>>,
  properties: Readonly<Record<string, Schema | undefined>>,
): string[] {
  return [...new Set([...Object.keys(values), ...Object.keys(properties)])].flatMap((name) => {
    const at = `${path}${name}`;
    const part = properties[name];
    if (part === undefined) return name in values ? [`${at} has no schema`] : [];
    if (!(name in values)) return [`${at} has no value`];
    const value = values[name];
    const inner = resolved(part).properties;
    const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
    // What overrides another value is empty, and has the other's properties.
    if (!inner || !isMap || Object.keys(value).length === 0) return [];
    return differences(`${at}.`, value as Record<string, unknown>, inner);
  });
}

test("no part of the schema lets a name pass that it does not know", () => {
  const lenient = [...all("values", schema)]
    .filter(([, { properties }]) => properties)
    .filter(([, { additionalProperties }]) => additionalProperties !== false);
  expect(lenient.map(([path]) => path)).toEqual([]);
});

test("the dashboard asks for metrics that a server or an operator has, and for each of theirs", () => {
  const ofServers = Array.from(
    read("sidecar/metrics.ts").matchAll(/^ {2}(\w+):\s*"/gm),
    ([, name]) => `throughline_${name}`,
  );
  const written = ["sidecar/metrics.ts", "operator/metrics.ts"].flatMap((path) =>
    Array.from(read(path).matchAll(/"(throughline_\w+)"/g), ([, name]) => name as string),
  );
  const has = new Set([...ofServers, ...written]);
  expect(has.size).toBeGreaterThan(20);
  const asked = Array.from(
    inChart("files/dashboard.json").matchAll(/throughline_\w+/g),
    // A histogram is more than one.
    ([name]) => name.replace(/_seconds_(bucket|count|sum)$/, "_seconds"),
  );
  expect(asked.filter((name) => !has.has(name))).toEqual([]);
  expect([...has].filter((name) => !asked.includes(name))).toEqual([]);
});

test("its version is the project's", () => {
  const { version } = JSON.parse(read("package.json")) as { version: string };
  expect(parse(inChart("Chart.yaml"))).toMatchObject({ version, appVersion: version });
});
