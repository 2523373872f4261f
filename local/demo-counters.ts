/**
 * What the servers counted, summed over their incarnations: a killed server takes its counters with it,
 * so they are read several times a second and the last reading of each incarnation counts.
 */
import type { LocalServer } from "./throughline.ts";

const EVERY_MS = 100;
const NAMES = {
  made: "throughline_catch_up_dispatchers_total",
  shared: "throughline_catch_up_shared_total",
  queued: "throughline_queued_events_total",
  merges: "throughline_merges_total",
} as const;

export type DispatchCounts = Record<keyof typeof NAMES, number>;

export class DispatchCounters {
  readonly #servers: readonly LocalServer[];
  readonly #last = new Map<string, DispatchCounts>();
  #timer: NodeJS.Timeout;

  constructor(servers: readonly LocalServer[]) {
    this.#servers = servers;
    this.#timer = setInterval(() => void this.read(), EVERY_MS);
  }

  async read(): Promise<void> {
    await Promise.all(
      this.#servers.map(async ({ status }) => {
        try {
          const answer = await fetch(`${status}/metrics`, { signal: AbortSignal.timeout(2000) });
          this.#last.set(status, parse(await answer.text()));
        } catch {
          // It is down just now: its last reading stands.
        }
      }),
    );
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  sum(): DispatchCounts {
    const total: DispatchCounts = { made: 0, shared: 0, queued: 0, merges: 0 };
    for (const counts of this.#last.values()) {
      for (const key of Object.keys(NAMES) as (keyof DispatchCounts)[]) total[key] += counts[key];
    }
    return total;
  }
}

function parse(text: string): DispatchCounts {
  const value = (name: string): number =>
    Number(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, "m").exec(text)?.[1] ?? 0);
  return {
    made: value(NAMES.made),
    shared: value(NAMES.shared),
    queued: value(NAMES.queued),
    merges: value(NAMES.merges),
  };
}
