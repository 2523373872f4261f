/** P7 and named publishers, beside the log (pure). */
import type { History, Line } from "../history.ts";
import type { Anomaly } from "./anomaly.ts";
import type { World } from "./world.ts";

/** Where each event is, over all incarnations of its topic. */
export type Places = ReadonlyMap<string, readonly string[]>;

export function placesOf(world: World): Places {
  const places = new Map<string, string[]>();
  for (const { topic, partitions } of world.topics.values()) {
    for (const [partition, log] of partitions.entries()) {
      for (const [i, content] of log.contents.entries()) {
        const known = places.get(content);
        const place = `${topic}/${partition}/${log.offsets[i]}`;
        if (known) known.push(place);
        else places.set(content, [place]);
      }
    }
  }
  return places;
}

export function lost({ name, lines }: History, places: Places): Anomaly[] {
  const topic = topicOf(lines);
  return lines.flatMap((line) => {
    if (line.kind !== "acknowledged") return [];
    const found = places.get(line.event) ?? [];
    const wanted = line.where && `${topic}/${line.where.join("/")}`;
    if (found.length > 0 && (!wanted || found.includes(wanted))) return [];
    const what = `${line.event} was acknowledged${wanted ? ` at ${wanted}` : ""}; the log has it ${found.join(", ") || "nowhere"}`;
    return [{ class: "lost" as const, client: name, atMs: line.at, what, lines: [line] }];
  });
}

/** Events of a named publisher have their number as value: each once, and in order per partition. */
export function duplicate({ name, lines }: History, places: Places, world: World): Anomaly[] {
  const [first] = lines;
  if (first?.kind !== "client" || first.role !== "named") return [];
  const found: Anomaly[] = [];
  const say = (what: string): void => {
    found.push({ class: "duplicate", client: name, atMs: first.at, what, lines: [first] });
  };
  const mine = (content: string): boolean => content.startsWith(`${name}:`);
  for (const [content, where] of places) {
    if (mine(content) && where.length > 1) say(`${content} is at ${where.join(" and at ")}`);
  }
  for (const { topic, partitions } of world.topics.values()) {
    if (topic !== first.topic) continue;
    for (const [partition, log] of partitions.entries()) {
      let last = 0;
      for (const content of log.contents.filter(mine)) {
        const number = Number(content.slice(name.length + 1).split("|")[0]);
        if (number < last) say(`${topic}/${partition}: ${number} comes after ${last}`);
        last = Math.max(last, number);
      }
    }
  }
  return found;
}

export function internal({ name, lines }: History): Anomaly[] {
  return lines.flatMap((line) => {
    if ((line.kind !== "end" && line.kind !== "refused") || line.error !== "INTERNAL") return [];
    const what = line.kind === "end" ? line.message : "a publish was answered so";
    return [{ class: "internal" as const, client: name, atMs: line.at, what, lines: [line] }];
  });
}

function topicOf(lines: readonly Line[]): string {
  const [first] = lines;
  return first?.kind === "client" ? first.topic : "";
}
