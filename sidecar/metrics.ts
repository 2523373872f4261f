/**
 * What a server counts. Counting is adding to a number: the Prometheus library is loaded by the first
 * scrape (it costs 10 MB, which an unwatched pod door need not pay).
 *
 * The names are a documented interface (README): they are changed like the API is.
 */
import type { SessionFigures } from "./sessions/session-figures.ts";

export interface Metrics {
  eventsPublished(count: number): void;
  publishesRefused(count: number): void;
  eventsDelivered(count: number): void;
  bytesDelivered(bytes: number): void;
  framesSent(count: number): void;
  streamsOpen(delta: number): void;
  catchUpsMade(): void;
  catchUpShared(): void;
  eventsQueuedDuringCatchUp(count: number): void;
  merges(): void;
  demotions(): void;
  logBytesRead(bytes: number, path: "live" | "catch-up"): void;
  inFlightBytes(bytes: number): void;
  tailBytes(bytes: number): void;
  catchUpBytes(bytes: number): void;
  sessionSaved(): void;
  sessionSuperseded(): void;
  sessionMirrored(isDone: boolean): void;
  sessions(figures: SessionFigures): void;
}

const COUNTERS = {
  published_events_total: "Events that Kafka acknowledged.",
  refused_events_total: "Events that were not published: refused, failed, or of unknown outcome.",
  delivered_events_total: "Events written to streams.",
  delivered_bytes_total: "Bytes of encoded events written to streams.",
  frames_total: "Batch frames written to streams.",
  catch_up_dispatchers_total: "Catch-up dispatchers made.",
  catch_up_shared_total: "Clients that joined a catch-up dispatcher that was there already.",
  queued_events_total: "Events that reached a main dispatcher while a catch-up for it ran.",
  merges_total: "Clients that merged from a catch-up dispatcher into the main one.",
  demotions_total: "Clients that fell behind the tail of a main dispatcher.",
  session_saves_total: "Positions of sessions saved in the session store.",
  session_superseded_total: "Streams that lost their session to a newer one, or to ForgetSession.",
  session_mirror_commits_total:
    "Positions of sessions shown as Kafka group offsets, or removed there.",
  session_mirror_failures_total: "Positions of sessions that could not be shown there.",
} as const;

const GAUGES = {
  streams: "Open streams.",
  in_flight_bytes: "Bytes of frames that clients have not taken yet.",
  tail_bytes: "Bytes in the tails of main dispatchers.",
  catch_up_bytes: "Bytes held by catch-up dispatchers.",
  sessions: "Sessions that streams of this server have.",
  sessions_unverified:
    "Of these, sessions of which the store does not say that they are still held.",
  session_lag_events: "How far the saved positions of these sessions are behind, all together.",
  session_lag_max_events: "The same of the one that is furthest behind.",
} as const;

type Name = keyof typeof COUNTERS | keyof typeof GAUGES;

export class ServerMetrics implements Metrics {
  readonly #values: Record<Name, number> = {
    published_events_total: 0,
    refused_events_total: 0,
    delivered_events_total: 0,
    delivered_bytes_total: 0,
    frames_total: 0,
    catch_up_dispatchers_total: 0,
    catch_up_shared_total: 0,
    queued_events_total: 0,
    merges_total: 0,
    demotions_total: 0,
    session_saves_total: 0,
    session_superseded_total: 0,
    session_mirror_commits_total: 0,
    session_mirror_failures_total: 0,
    streams: 0,
    in_flight_bytes: 0,
    tail_bytes: 0,
    catch_up_bytes: 0,
    sessions: 0,
    sessions_unverified: 0,
    session_lag_events: 0,
    session_lag_max_events: 0,
  };
  readonly #logBytes = { live: 0, "catch-up": 0 };
  #page: Promise<() => Promise<string>> | undefined;

  eventsPublished(count: number): void {
    this.#values.published_events_total += count;
  }

  publishesRefused(count: number): void {
    this.#values.refused_events_total += count;
  }

  eventsDelivered(count: number): void {
    this.#values.delivered_events_total += count;
  }

  bytesDelivered(bytes: number): void {
    this.#values.delivered_bytes_total += bytes;
  }

  framesSent(count: number): void {
    this.#values.frames_total += count;
  }

  streamsOpen(delta: number): void {
    this.#values.streams += delta;
  }

  catchUpsMade(): void {
    this.#values.catch_up_dispatchers_total++;
  }

  catchUpShared(): void {
    this.#values.catch_up_shared_total++;
  }

  eventsQueuedDuringCatchUp(count: number): void {
    this.#values.queued_events_total += count;
  }

  merges(): void {
    this.#values.merges_total++;
  }

  demotions(): void {
    this.#values.demotions_total++;
  }

  logBytesRead(bytes: number, path: "live" | "catch-up"): void {
    this.#logBytes[path] += bytes;
  }

  inFlightBytes(bytes: number): void {
    this.#values.in_flight_bytes = bytes;
  }

  tailBytes(bytes: number): void {
    this.#values.tail_bytes = bytes;
  }

  catchUpBytes(bytes: number): void {
    this.#values.catch_up_bytes = bytes;
  }

  sessionSaved(): void {
    this.#values.session_saves_total++;
  }

  sessionSuperseded(): void {
    this.#values.session_superseded_total++;
  }

  sessionMirrored(isDone: boolean): void {
    if (isDone) this.#values.session_mirror_commits_total++;
    else this.#values.session_mirror_failures_total++;
  }

  sessions({ held, unverified, lag, maxLag }: SessionFigures): void {
    this.#values.sessions = held;
    this.#values.sessions_unverified = unverified;
    this.#values.session_lag_events = lag;
    this.#values.session_lag_max_events = maxLag;
  }

  /** The page that Prometheus scrapes. */
  async page(): Promise<string> {
    this.#page ??= this.#makePage();
    return (await this.#page)();
  }

  async #makePage(): Promise<() => Promise<string>> {
    // A CommonJS package: in a bundle it has no names but this one.
    const { default: prometheus } = await import("@prometheus-io/client");
    const { Counter, Gauge, Registry, collectDefaultMetrics } = prometheus;
    const registry = new Registry();
    const registers = [registry];
    const values = this.#values;
    const logBytes = this.#logBytes;
    for (const [name, help] of Object.entries(COUNTERS) as [keyof typeof COUNTERS, string][]) {
      new Counter({
        name: `throughline_${name}`,
        help,
        registers,
        collect() {
          this.reset();
          this.inc(values[name]);
        },
      });
    }
    for (const [name, help] of Object.entries(GAUGES) as [keyof typeof GAUGES, string][]) {
      new Gauge({
        name: `throughline_${name}`,
        help,
        registers,
        collect() {
          this.set(values[name]);
        },
      });
    }
    new Counter({
      name: "throughline_log_read_bytes_total",
      help: "Bytes of record batches read from Kafka.",
      labelNames: ["path"] as const,
      registers,
      collect() {
        this.reset();
        this.inc({ path: "live" }, logBytes.live);
        this.inc({ path: "catch-up" }, logBytes["catch-up"]);
      },
    });
    collectDefaultMetrics({ register: registry });
    return () => registry.metrics();
  }
}
