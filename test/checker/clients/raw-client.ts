/**
 * A client of plain generated stubs that writes down every message: one Subscribe call after the other, by
 * token or by session, on whichever server comes next. It goes on from its own history when its process was
 * killed, as an app does that keeps the token with what it has done.
 */
import { randomUUID } from "node:crypto";
import { credentials, type ServiceError } from "@grpc/grpc-js";
import { toThroughlineError } from "../../../client/errors.ts";
import {
  type Event,
  type SubscribeOpen,
  type SubscribeResponse,
  ThroughlineServiceClient,
} from "../../../proto/gen/throughline/v1/throughline.ts";
import { contentOf, type HistoryWriter, type Line } from "../history.ts";
import type { Admission } from "../judge/admission.ts";
import { pause } from "./pace.ts";
import type { SubscriberSpec } from "./roster.ts";

const HEARTBEAT_MS = 500;
/** Of a server that says nothing for so long. */
const SILENCE_MS = 2500;
const REOPEN_MS = 150;
const SUPERSEDED_MS = 2500;
const KEPT_TOKENS = 400;
const EXCLUSIVE = 1;
const SHARED = 2;
/** How long a server may take to save what a member leaves with. */
const LEAVE_MS = 1000;

type Kind = NonNullable<SubscribeResponse["kind"]>;
type Call = ReturnType<ThroughlineServiceClient["subscribe"]>;

export class RawClient {
  /** The newest last. */
  readonly tokens: string[] = [];
  readonly spec: SubscriberSpec;
  readonly #writer: HistoryWriter;
  readonly #addresses: readonly string[];
  readonly #stubs = new Map<string, ThroughlineServiceClient>();
  readonly instance: string;
  readonly #stopping = new AbortController();
  readonly #other: () => RawClient | undefined;
  readonly #running: Promise<void>;
  attempt = 0;
  isOpen = false;
  #turn = Math.floor(Math.random() * 3);
  #storeIsDown = false;
  #hurried = false;

  /** @param other whose tokens it takes. */
  constructor(
    spec: SubscriberSpec,
    addresses: readonly string[],
    writer: HistoryWriter,
    past: readonly Line[],
    other: () => RawClient | undefined,
  ) {
    this.spec = spec;
    this.instance = `${spec.name}-${randomUUID()}`;
    this.#writer = writer;
    this.#addresses = addresses;
    this.#other = other;
    for (const line of past) {
      if (line.kind === "end" && line.error === "POSITION_LOST") this.tokens.length = 0;
      else if ("token" in line && line.token && line.kind !== "end") this.#keep(line.token);
    }
    const role = spec.slowMs === undefined ? "raw" : "slow";
    writer.write({ kind: "client", role, topic: spec.topic, pid: process.pid });
    this.#running = this.#run();
  }

  /** It takes what there is from now on. */
  hurry(): void {
    this.#hurried = true;
  }

  async finish(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    const { holdMs, tokenOf } = this.spec;
    // Who comes and goes need not have been there at the end.
    if (holdMs === undefined && tokenOf === undefined) this.#writer.write({ kind: "finished" });
    this.#writer.close();
    for (const stub of this.#stubs.values()) stub.close();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const from = this.spec.tokenOf === undefined ? this : this.#other();
      const start = this.#startOf(from?.tokens ?? []);
      if (start === undefined) {
        await pause(REOPEN_MS, signal);
        continue;
      }
      const error = await this.#stream(start);
      this.#storeIsDown = error === "SESSION_STORE_UNAVAILABLE";
      if (error === "POSITION_LOST") this.tokens.length = 0;
      const away = error === "SUPERSEDED" ? SUPERSEDED_MS : (this.spec.awayMs ?? 0);
      if (away > 0) this.#writer.write({ kind: "away" });
      await pause(away || REOPEN_MS * (0.5 + Math.random()), signal);
    }
  }

  #startOf(tokens: readonly string[]): { token: string } | "earliest" | "latest" | undefined {
    const newest = tokens.at(-1);
    if (this.spec.tokenOf !== undefined) {
      const token =
        Math.random() < 0.5 ? newest : tokens[Math.floor(Math.random() * tokens.length)];
      return token ? { token } : undefined;
    }
    const { session, shared } = this.spec;
    const byName = shared || (session !== undefined && !this.#storeIsDown);
    return newest === undefined || byName ? (this.spec.start ?? "earliest") : { token: newest };
  }

  /** @returns the name of the error. */
  #stream(start: { token: string } | "earliest" | "latest"): Promise<string> {
    const {
      topic,
      admission,
      recovery,
      session,
      shared,
      strict = false,
      acks,
      slowMs,
      holdMs,
    } = this.spec;
    const server = this.#addresses[this.#turn++ % this.#addresses.length] as string;
    const call = this.#stub(server).subscribe();
    const attempt = ++this.attempt;
    const instance = this.instance;
    const named = session !== undefined && { session, instance, attempt, acks: acks ?? "explicit" };
    this.#writer.write({
      ...{ kind: "open", topic, server, start, admission, recovery },
      ...(named || {}),
      ...(shared && { mode: "shared" as const }),
      ...(strict && { strict }),
    });
    return new Promise((resolve) => {
      let ours = false;
      let over = false;
      const leave = (): void => {
        ours = true;
        call.cancel();
      };
      let silence = setTimeout(leave, SILENCE_MS);
      let held: NodeJS.Timeout | undefined;
      const leaveInOrder = (): void => {
        // What comes now is not taken.
        ours = true;
        this.#writer.write({ kind: "leave" });
        call.write({ kind: { $case: "leave", value: {} } });
        held = setTimeout(leave, LEAVE_MS);
      };
      if (holdMs !== undefined) held = setTimeout(shared ? leaveInOrder : leave, holdMs);
      this.#stopping.signal.addEventListener("abort", leave, { once: true });
      const end = (error: string, message: string, token: Buffer): void => {
        if (over) return;
        over = true;
        this.isOpen = false;
        clearTimeout(silence);
        clearTimeout(held);
        this.#stopping.signal.removeEventListener("abort", leave);
        const more = token.length > 0 ? { token: token.toString("base64") } : {};
        this.#writer.write({ kind: "end", error: ours ? "" : error, message, ours, ...more });
        resolve(ours ? "" : error);
      };
      call.on("data", ({ kind }: SubscribeResponse) => {
        if (over || ours || !kind) return;
        clearTimeout(silence);
        silence = setTimeout(leave, SILENCE_MS);
        this.#heard(kind, call);
        if (kind.$case === "moving") leave();
      });
      call.on("error", (error: ServiceError) => {
        const told = toThroughlineError(error);
        end(told.error, told.message, told.token);
      });
      call.on("end", () => end("", "", Buffer.alloc(0)));
      const credit = { events: BigInt(slowMs === undefined ? 2000 : 40), bytes: 0n };
      const value: SubscribeOpen = {
        ...{ topic, credit, recovery, maxFrameBytes: 0, heartbeatMs: HEARTBEAT_MS },
        start: startAt(start),
        filter: filterOf(admission),
        session: named
          ? {
              ...{ name: named.session, instance, strict },
              mode: shared ? SHARED : EXCLUSIVE,
              ...{ attempt: BigInt(attempt), acks: acks === "credits" ? 2 : 1 },
              ...{ knownToken: Buffer.alloc(0), knownSeeks: 0n },
            }
          : undefined,
      };
      call.write({ kind: { $case: "open", value } });
    });
  }

  #heard(kind: Kind, call: Call): void {
    const line = lineOf(kind);
    if ("token" in line && line.token) this.#keep(line.token);
    this.#writer.write(line);
    if (line.kind === "opened") this.isOpen = true;
    if (line.kind === "batch") this.#take(line, call);
    if (line.kind !== "notice") return;
    const awaits = line.notice === "repositioned" || line.notice === "restarted";
    if (awaits && line.token && this.spec.acks === "explicit") {
      const value = { positions: [], token: Buffer.from(line.token, "base64") };
      // An acknowledgement of a whole token that this stream does not wait for is sound, too.
      if (line.notice === "repositioned") call.write({ kind: { $case: "ack", value } });
    }
  }

  #take({ partition, offsets }: Extract<Line, { kind: "batch" }> | BatchLine, call: Call): void {
    const { acks, slowMs = 0 } = this.spec;
    const offset = offsets.at(-1);
    const done = (): void => {
      if (call.destroyed) return;
      if (acks && offset !== undefined) {
        this.#writer.write({ kind: "ack", positions: [[partition, offset]] });
      }
      if (acks === "explicit" && offset !== undefined) {
        const value = {
          positions: [{ partition, offset: BigInt(offset) }],
          token: Buffer.alloc(0),
        };
        call.write({ kind: { $case: "ack", value } });
      }
      const value = { events: BigInt(offsets.length), bytes: 0n };
      call.write({ kind: { $case: "credit", value } });
    };
    if (slowMs > 0 && !this.#hurried) setTimeout(done, slowMs);
    else done();
  }

  #keep(token: string): void {
    if (this.tokens.at(-1) === token) return;
    this.tokens.push(token);
    if (this.tokens.length > KEPT_TOKENS) this.tokens.shift();
  }

  #stub(server: string): ThroughlineServiceClient {
    const known = this.#stubs.get(server);
    if (known) return known;
    const made = new ThroughlineServiceClient(server, credentials.createInsecure(), {
      "grpc.initial_reconnect_backoff_ms": 100,
      "grpc.max_reconnect_backoff_ms": 500,
      "grpc.use_local_subchannel_pool": 1,
    });
    this.#stubs.set(server, made);
    return made;
  }
}

type BatchLine = Pick<Extract<Line, { kind: "batch" }>, "partition" | "offsets">;

export function eventContent({ payload, key, type }: Event): string {
  return contentOf(payload?.toString() ?? "", key?.toString() ?? "", type);
}

/** Base64 of the token that every message but a few carries. */
function text(token: Buffer | undefined): string {
  return token?.toString("base64") ?? "";
}

export function lineOf(kind: Kind) {
  switch (kind.$case) {
    case "opened": {
      const { token, partitions, session } = kind.value;
      const generation = Number(session?.generation ?? 0);
      const stored = text(session?.storedToken);
      return { kind: "opened", token: text(token), partitions, generation, stored } as const;
    }
    case "batch": {
      const { partition, events, token, maybeRedelivered: marked } = kind.value;
      const offsets = events.map(({ offset }) => Number(offset));
      const contents = events.map(eventContent);
      return {
        kind: "batch",
        partition,
        offsets,
        events: contents,
        token: text(token),
        marked,
      } as const;
    }
    case "heartbeat": {
      const { token, lag, waitsFor: waits, savedToken } = kind.value;
      const saved = text(savedToken);
      return { kind: "heartbeat", token: text(token), lag: Number(lag), waits, saved } as const;
    }
    case "restarted": {
      const { token, partition, fromOffset, toOffset } = kind.value;
      const range = { partition, from: Number(fromOffset), to: Number(toOffset) };
      return { kind: "notice", notice: "restarted", token: text(token), ...range } as const;
    }
    case "superseded":
      return { kind: "notice", notice: "superseded", by: kind.value.byInstance } as const;
    case "moving":
    case "repositioned":
      return { kind: "notice", notice: kind.$case, token: text(kind.value.token) } as const;
    case "assigned":
    case "revoked": {
      const { partitions } = kind.value;
      return { kind: "notice", notice: kind.$case, partitions } as const;
    }
    default:
      return { kind: "notice", notice: kind.$case } as const;
  }
}

export function startAt(start: { token: string } | "earliest" | "latest"): SubscribeOpen["start"] {
  if (typeof start !== "object") return { at: { $case: start, value: {} } };
  const token = Buffer.from(start.token, "base64");
  return { at: { $case: "token", value: { token, after: [] } } };
}

function filterOf(admission: Admission | undefined): SubscribeOpen["filter"] {
  if (!admission) return undefined;
  return admission.by === "type"
    ? { types: [...admission.types], keys: [], headers: [] }
    : { types: [], keys: admission.keys.map((key) => Buffer.from(key)), headers: [] };
}
