/**
 * The table of values in the chart's README, made of the comments in its values.yaml. `node tools/chart-values.ts`
 * prints it. A map in which nothing has a comment of its own is one row.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { isMap, isScalar, type Pair, parseDocument, type YAMLMap } from "yaml";

const VALUES = join(import.meta.dirname, "../charts/throughline/values.yaml");

interface ChartValue {
  readonly path: string;
  /** Undefined: a map whose own values follow. */
  readonly preset: unknown;
  readonly comment: string;
}

function chartValues(): ChartValue[] {
  const document = parseDocument(readFileSync(VALUES, "utf8"));
  return valuesIn(document.contents as YAMLMap, "");
}

function valuesIn(map: YAMLMap, above: string): ChartValue[] {
  return map.items.flatMap((pair, i) => {
    const path = `${above}${keyOf(pair)}`;
    const comment = commentOf(map, i);
    const { value } = pair;
    if (!isMap(value) || !hasComments(value)) {
      const preset = isMap(value) ? value.toJSON() : JSON.parse(JSON.stringify(value));
      return [{ path, preset, comment }];
    }
    const own = comment === "" ? [] : [{ path, preset: undefined, comment }];
    return [...own, ...valuesIn(value, `${path}.`)];
  });
}

function keyOf({ key }: Pair): string {
  return String(isScalar(key) ? key.value : key);
}

/** That of a map's first value is given to the map. */
function commentOf(map: YAMLMap, i: number): string {
  const { key } = map.items[i] as Pair;
  const first = i === 0 ? map.commentBefore : undefined;
  const text = (isScalar(key) ? key.commentBefore : undefined) ?? first ?? "";
  return text.replaceAll(/\s+/g, " ").trim();
}

function hasComments(map: YAMLMap): boolean {
  return map.items.some(
    ({ value }, i) => commentOf(map, i) !== "" || (isMap(value) && hasComments(value)),
  );
}

export function chartValuesMarkdown(): string {
  const rows = chartValues().map(({ path, preset, comment }) => {
    const shown = preset === undefined ? "" : `\`${JSON.stringify(preset)}\``;
    return `| \`${path}\` | ${shown} | ${comment} |`;
  });
  return ["| value | default | |", "| --- | --- | --- |", ...rows].join("\n");
}

if (import.meta.main) process.stdout.write(`${chartValuesMarkdown()}\n`);
