/** Whether streams go on, in time and within bounds (pure). Judged only while nothing was being done. */
import type { History, Line } from "../history.ts";
import type { Anomaly } from "./anomaly.ts";
import { passedOver } from "./compare.ts";
import { positionAtEnd } from "./loss.ts";
import { MEMBER_LAPSE_MS } from "./members.ts";
import { isMember, type Stream } from "./streams.ts";
import { calmIn, type World } from "./world.ts";

const SILENCE_MS = 5000;
/** Who opens as a member waits until those lapse of whom the store knows nothing any more. */
const MEMBER_OPENS_MS = MEMBER_LAPSE_MS + 2000;
const HEALED_MS = 30_000;
const LATE_MS = 1000;

function isHeard({ kind }: Line): boolean {
  return ["opened", "batch", "heartbeat", "notice"].includes(kind);
}

/** A client that wants a stream hears something every 5 s, whatever it takes to get one; a member that opens, 8 s. */
export function stuck({ name, lines }: History, world: World): Anomaly[] {
  const [first] = lines;
  if (first?.kind === "client" && (first.role === "publisher" || first.role === "named")) return [];
  const found: Anomaly[] = [];
  let since: Line | undefined;
  let boundMs = SILENCE_MS;
  for (const line of lines) {
    if (line.kind === "open" && line.mode === "shared") boundMs = MEMBER_OPENS_MS;
    if (isHeard(line)) {
      if (since) found.push(...silence(name, since, line, boundMs, world));
      since = line;
      boundMs = SILENCE_MS;
    } else if (line.kind === "away" || line.kind === "client") {
      since = undefined;
    } else if (line.kind === "open") since ??= line;
  }
  return found;
}

function silence(client: string, from: Line, to: Line, boundMs: number, world: World): Anomaly[] {
  if (to.at - from.at <= boundMs) return [];
  return calmIn(world, from.at, to.at)
    .filter((calm) => calm.toMs - calm.fromMs > boundMs)
    .map((calm) => ({
      class: "stuck" as const,
      client,
      atMs: calm.fromMs,
      what: `nothing was heard for ${((to.at - from.at) / 1000).toFixed(1)} s, of which ${((calm.toMs - calm.fromMs) / 1000).toFixed(1)} s were calm`,
      lines: [from, to],
    }));
}

function deliveriesOf({ runs }: Stream) {
  return runs.flatMap((run) => run.deliveries.map((delivery) => ({ run, ...delivery })));
}

/** Half a minute after the last deed, what is sent is delivered within a second. */
export function lag(stream: Stream, world: World): Anomaly[] {
  if (stream.role === "slow") return [];
  const found: Anomaly[] = [];
  for (const calm of calmIn(world, stream.open.at, stream.lastMs)) {
    const from = calm.fromMs + HEALED_MS;
    if (calm.toMs < from) continue;
    for (const { run, content, line } of deliveriesOf(stream)) {
      const sent = world.sentMs.get(content) ?? Number.POSITIVE_INFINITY;
      if (sent < Math.max(from, run.fromMs) || line.at > calm.toMs || line.at - sent <= LATE_MS)
        continue;
      const what = `${content} came ${Math.round(line.at - sent)} ms after it was sent, ${Math.round((sent - calm.fromMs) / 1000)} s after the last deed`;
      found.push({ class: "lag", client: stream.client, atMs: line.at, what, lines: [line] });
    }
  }
  return found;
}

/** What is done to the processes of clients, and to nothing that serves them. */
const CLIENTS_ONLY = /^client-(kill|freeze)$/;

/**
 * Nobody's trouble is another's: half a minute after the last deed to anything but clients, a stream of a
 * client that was left alone has events within a second. Sessions are shared with the clients in trouble.
 */
export function harm(stream: Stream, world: World): Anomaly[] {
  const { client, role, open } = stream;
  if (role === "slow" || open.session !== undefined) return [];
  const byClients = world.deeds.filter(({ fault }) => CLIENTS_ONLY.test(fault));
  const others = world.deeds.filter(({ fault }) => !CLIENTS_ONLY.test(fault));
  const isLeft = (name: string, fromMs: number, toMs: number): boolean =>
    !byClients.some(
      (deed) =>
        deed.target === world.processes.get(name) && deed.toMs >= fromMs && deed.fromMs <= toMs,
    );
  const found: Anomaly[] = [];
  for (const calm of calmIn({ ...world, deeds: others }, open.at, stream.lastMs)) {
    const from = calm.fromMs + HEALED_MS;
    if (calm.toMs < from) continue;
    for (const { content, line } of deliveriesOf(stream)) {
      const sent = world.sentMs.get(content) ?? Number.POSITIVE_INFINITY;
      if (sent < from || line.at > calm.toMs || line.at - sent <= LATE_MS) continue;
      const publisher = content.split(":")[0] ?? "";
      const since = sent - SILENCE_MS;
      if (![client, publisher].every((name) => isLeft(name, since, line.at))) continue;
      const by = byClients.find((deed) => deed.fromMs <= line.at && deed.toMs >= sent - HEALED_MS);
      if (!by) continue;
      const what = `${content} came ${Math.round(line.at - sent)} ms after it was sent, while ${by.target} had ${by.fault}`;
      found.push({ class: "harm", client, atMs: line.at, what, lines: [line] });
    }
  }
  return found;
}

/** A client that was there to the end has everything that was acknowledged. */
export function undelivered(history: History, streams: readonly Stream[], world: World): Anomaly[] {
  const end = history.lines.at(-1);
  const stream = streams.at(-1);
  // Of a shared session: members.ts.
  if (end?.kind !== "finished" || !stream || isMember(stream)) return [];
  const { start } = stream;
  if (!start) {
    const what = "its last stream was never opened";
    return [
      { class: "undelivered", client: history.name, atMs: end.at, what, lines: [stream.open] },
    ];
  }
  const topicId = stream.runs.at(-1)?.topicId ?? start.topicId;
  const position = positionAtEnd(stream);
  const partitions = world.topics.get(topicId)?.partitions ?? [];
  return partitions.flatMap((log, partition) => {
    const next = position(partition);
    const missing = passedOver(stream, log, next, Number.POSITIVE_INFINITY, end.at);
    const content = missing === undefined ? "" : (log.contents[log.at(missing)] ?? "");
    if (!world.acknowledged.has(content)) return [];
    const what = `${content} at ${partition}/${missing} was acknowledged; the client ended at ${next}`;
    const { name } = history;
    return [{ class: "undelivered" as const, client: name, atMs: end.at, what, lines: [end] }];
  });
}

export function rss(world: World): Anomaly[] {
  return world.samples
    .filter(({ rssBytes }) => rssBytes > world.rssCapBytes)
    .map(({ server, atMs, rssBytes }) => ({
      class: "rss" as const,
      client: server,
      atMs,
      what: `${Math.round(rssBytes / 1048576)} MiB of ${Math.round(world.rssCapBytes / 1048576)}`,
      lines: [],
    }));
}

export function crash(world: World): Anomaly[] {
  return world.crashes.map(({ server, atMs, said }) => ({
    ...{ class: "crash" as const, client: server, atMs, lines: [] },
    what: said.map((line) => JSON.stringify(line)).join("\n  "),
  }));
}
