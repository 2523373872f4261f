/**
 * The demo's audit as rows, decided from what was written down (pure): each is good or not, and the demo
 * passed when all are. The clients' records are judged against the log in `demo-audit.ts`.
 */
import { judge, judgeTogether, type Seen } from "./demo-audit.ts";
import type { Takeover } from "./demo-clients.ts";
import type { DispatchCounts } from "./demo-counters.ts";

/** Each client must have received so many events before and after each kill. */
const LEAST_EVENTS_AROUND_A_KILL = 100;
const LEAST_KILLS = 4;

export interface Row {
  readonly good: boolean;
  readonly text: string;
}

export interface AuditedTopic {
  readonly name: string;
  /** How many events its file has. */
  readonly known: number;
  readonly acknowledged: number;
  /** What kafkajs read. */
  readonly log: readonly Seen[];
}

export interface AuditedClient {
  readonly name: string;
  readonly topic: string;
  readonly seen: readonly Seen[];
  readonly takeovers: readonly Takeover[];
  readonly failure: Error | undefined;
}

export interface Kill {
  readonly server: string;
  readonly afterEvents: number;
}

export function auditRows(audited: {
  readonly topics: readonly AuditedTopic[];
  readonly clients: readonly AuditedClient[];
  readonly kills: readonly Kill[];
  readonly counts: DispatchCounts;
  /** The named publisher, and how often its server was lost. */
  readonly named: { readonly name: string; readonly breaks: number };
  /** The members of a shared session, by what each received of one topic. */
  readonly crew: { readonly topic: string; readonly members: readonly (readonly Seen[])[] };
}): Row[] {
  const { topics, clients, kills, counts, named, crew } = audited;
  const rows: Row[] = [];
  const row = (good: boolean, text: string): void => void rows.push({ good, text });

  for (const { name, known, acknowledged, log } of topics) {
    const all = acknowledged === known && log.length === known;
    row(
      all,
      `published ${name}: ${acknowledged} acknowledged, ${log.length} in Kafka, of ${known}`,
    );
  }
  const total = { received: 0, missing: 0, repeated: 0, outOfOrder: 0, different: 0 };
  const gaps: string[] = [];
  let due = 0;
  for (const client of clients) {
    const log = topics.find(({ name }) => name === client.topic)?.log ?? [];
    due += log.length;
    const verdict = judge(log, client.seen);
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += verdict[key];
    if (verdict.firstMissing) {
      gaps.push(`${client.name} ${verdict.missing}, the first at ${verdict.firstMissing}`);
    }
    if (client.failure) row(false, `${client.name} failed: ${client.failure.message}`);
  }
  row(total.received === due, `received by ${clients.length} clients: ${total.received} of ${due}`);
  row(total.missing === 0, `missing: ${[total.missing, ...gaps].join("; ")}`);
  row(total.repeated === 0, `repeated: ${total.repeated}`);
  row(total.outOfOrder === 0, `out of order: ${total.outOfOrder}`);
  row(total.different === 0, `other content than in the log: ${total.different}`);

  row(kills.length >= LEAST_KILLS, `servers killed with SIGKILL: ${kills.length}`);
  kills.forEach(({ server, afterEvents }, i) => {
    const around = clients.map((client) => eventsAround(client, i));
    const before = Math.min(...around.map((events) => events.before));
    const after = Math.min(...around.map((events) => events.after));
    row(
      clients.every(({ takeovers }) => takeovers[i]?.ms !== undefined),
      `kill ${i + 1}, server ${server} after ${afterEvents} flights, takeover in ms: ${takeoverTimes(clients, i)}`,
    );
    row(
      Math.min(before, after) >= LEAST_EVENTS_AROUND_A_KILL,
      `kill ${i + 1}, events of the client with the fewest: ${before} before, ${after} after`,
    );
  });
  row(named.breaks > 0, `named publisher ${named.name} went on elsewhere: ${named.breaks} times`);
  const together = judgeTogether(
    topics.find(({ name }) => name === crew.topic)?.log ?? [],
    crew.members,
  );
  row(
    together.missing + together.repeatedUnmarked === 0 && crew.members.every((m) => m.length > 0),
    `shared session: ${crew.members.map((m) => m.length).join(" and ")} of its members' events, missing: ${together.missing}, repeated without a mark: ${together.repeatedUnmarked}`,
  );
  row(counts.made > 0, `catch-up dispatchers made: ${counts.made}`);
  row(counts.shared > 0, `clients that shared one: ${counts.shared}`);
  row(counts.queued > 0, `events queued meanwhile: ${counts.queued}`);
  row(counts.merges > 0, `merges: ${counts.merges}`);
  return rows;
}

/** By the client's own record: since the kill before, and until the next. */
function eventsAround(
  { seen, takeovers }: AuditedClient,
  kill: number,
): { before: number; after: number } {
  const at = takeovers[kill]?.seenBefore ?? 0;
  return {
    before: at - (takeovers[kill - 1]?.seenBefore ?? 0),
    after: (takeovers[kill + 1]?.seenBefore ?? seen.length) - at,
  };
}

/** Of every client, by kind of client: "live 44 45, slow 80". */
function takeoverTimes(clients: readonly AuditedClient[], kill: number): string {
  const byKind = Map.groupBy(clients, ({ name }) => name.split(" ", 1)[0] ?? name);
  return [...byKind]
    .map(([kind, those]) => {
      const times = those.map(({ takeovers }) => takeovers[kill]?.ms?.toFixed(0) ?? "never");
      return `${kind} ${times.join(" ")}`;
    })
    .join(", ");
}
