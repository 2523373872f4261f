/**
 * One connection to one node of the session store, kept up. The only file that imports the Redis client.
 *
 * Each phase owns its client and timers; leaving the phase ends them. The client never reconnects by
 * itself and queues nothing while it is away: both are done here, with a limit. Every question has an
 * answer by its deadline. A store that took the question and said nothing until then (frozen, or the
 * network lost it) loses the connection: TCP would wait for a quarter of an hour.
 */
import { createClient, ErrorReply, RESP_TYPES } from "@redis/client";
import type { Clock } from "../../process/clock.ts";
import { withAdvice } from "./redis-advice.ts";

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

/** How every node is reached. */
export interface RedisAccess {
  readonly tls: { readonly ca?: Buffer } | undefined;
  readonly user: string | undefined;
  readonly password: string | undefined;
}

export interface RedisWorld {
  /** Steady: it measures waits only. */
  readonly clock: Clock;
  readonly random: () => number;
  /** How long one call may take, and one attempt to connect. */
  readonly timeoutMs: number;
}

export type Command = readonly (string | Buffer)[];
export type Reply = Buffer | string | number | null | readonly Reply[];

export type Answer =
  | { readonly kind: "reply"; readonly reply: Reply }
  /** What the store answered instead: its code in capitals, then its text. */
  | { readonly kind: "error"; readonly message: string }
  /** It may have been done, or not. */
  | { readonly kind: "unavailable"; readonly reason: string };

/** What the connection may have asked and not yet been answered; more is refused at once. */
const MAX_WAITING = 20_000;
const FIRST_REST_MS = 50;
const MAX_REST_MS = 2000;

/** What of the client is used here. */
interface Client {
  connect(): Promise<unknown>;
  destroy(): void;
  sendCommand(command: Command): Promise<unknown>;
  on(event: "error" | "terminated" | "end", listener: (error?: Error) => void): unknown;
}

type Phase =
  | {
      readonly kind: "connecting";
      readonly client: Client;
      readonly cancelTimer: () => void;
      /** Those who ask meanwhile. */
      readonly waiting: Set<() => void>;
    }
  | { readonly kind: "ready"; readonly client: Client; answers: number }
  /** Waits before it connects again. */
  | { readonly kind: "resting"; readonly cancelTimer: () => void; readonly cause: string }
  | { readonly kind: "closed" };

/** What tells a store that is silent from one that is slow. */
interface Asked {
  readonly phase: Phase & { readonly kind: "ready" };
  readonly answers: number;
  readonly atMs: number;
}

export class RedisLink {
  readonly address: RedisAddress;
  readonly #access: RedisAccess;
  readonly #world: RedisWorld;
  #phase: Phase = { kind: "closed" };
  #waiting = 0;
  #failures = 0;

  constructor(address: RedisAddress, access: RedisAccess, world: RedisWorld) {
    this.address = address;
    this.#access = access;
    this.#world = world;
    this.#connect();
  }

  get name(): string {
    return nameOf(this.address);
  }

  /** One round trip for all, in their order. @param untilMs by the steady clock */
  async ask(commands: readonly Command[], untilMs: number): Promise<readonly Answer[]> {
    if (this.#waiting + commands.length > MAX_WAITING)
      return this.#none(commands, `${this.#waiting} calls wait for ${this.name} already`);
    this.#waiting += commands.length;
    const answers: (Answer | undefined)[] = commands.map(() => undefined);
    let cause = "";
    const { clock, timeoutMs } = this.#world;
    await new Promise<void>((resolve) => {
      let asked: Asked | undefined;
      const cancel = clock.setTimer(untilMs - clock.now(), () => {
        cause = `${this.name} did not answer within ${timeoutMs} ms`;
        if (this.#phase.kind === "connecting") this.#phase.waiting.delete(send);
        // A store that is only slow keeps its connection.
        const isSilent = asked?.phase.answers === asked?.answers;
        if (asked && isSilent && clock.now() - asked.atMs > timeoutMs / 2)
          this.#lost(asked.phase.client, cause);
        resolve();
      });
      const end = (): void => {
        cancel();
        resolve();
      };
      const send = (): void => {
        const phase = this.#phase;
        if (phase.kind === "connecting") {
          phase.waiting.add(send);
        } else if (phase.kind === "ready") {
          asked = { phase, answers: phase.answers, atMs: clock.now() };
          const all = commands.map(async (command, i) => {
            answers[i] = await answerTo(phase.client, command);
            if (answers[i]) phase.answers++;
          });
          void Promise.all(all).then(end);
        } else {
          cause = phase.kind === "closed" ? "it is closed" : phase.cause;
          end();
        }
      };
      send();
    });
    this.#waiting -= commands.length;
    if (this.#phase.kind === "resting") cause ||= this.#phase.cause;
    const reason = this.#withoutSecrets(cause || `${this.name}: the connection ended`);
    return answers.map((answer) => answer ?? { kind: "unavailable", reason });
  }

  close(): void {
    const phase = this.#phase;
    this.#phase = { kind: "closed" };
    this.#end(phase);
  }

  #connect(): void {
    const { clock, timeoutMs } = this.#world;
    const client = makeClient(this.address, this.#access, timeoutMs);
    const cancelTimer = clock.setTimer(timeoutMs, () =>
      this.#lost(client, `${this.name} did not let us in within ${timeoutMs} ms`),
    );
    this.#phase = { kind: "connecting", client, cancelTimer, waiting: new Set() };
    const lost = (error?: NodeJS.ErrnoException): void => {
      const said = error?.message || error?.code || "the connection ended";
      this.#lost(client, `${this.name}: ${withAdvice(said)}`);
    };
    for (const event of ["error", "terminated", "end"] as const) client.on(event, lost);
    const greeted = async (): Promise<void> => {
      await client.connect();
      // A frozen store lets everyone connect.
      await client.sendCommand(["PING"]);
    };
    greeted().then(() => {
      const phase = this.#phase;
      if (phase.kind !== "connecting" || phase.client !== client) return client.destroy();
      phase.cancelTimer();
      this.#failures = 0;
      this.#phase = { kind: "ready", client, answers: 0 };
      for (const send of phase.waiting) send();
    }, lost);
  }

  #lost(client: Client, cause: string): void {
    const phase = this.#phase;
    if (!("client" in phase) || phase.client !== client) return;
    const longest = Math.min(MAX_REST_MS, FIRST_REST_MS * 2 ** this.#failures++);
    const restMs = longest * (0.5 + this.#world.random() / 2);
    const cancelTimer = this.#world.clock.setTimer(restMs, () => this.#connect());
    this.#phase = { kind: "resting", cancelTimer, cause: this.#withoutSecrets(cause) };
    this.#end(phase);
  }

  #end(phase: Phase): void {
    if (phase.kind === "resting" || phase.kind === "connecting") phase.cancelTimer();
    if ("client" in phase) phase.client.destroy();
    if (phase.kind === "connecting") for (const send of phase.waiting) send();
  }

  #none(commands: readonly Command[], reason: string): readonly Answer[] {
    return commands.map(() => ({ kind: "unavailable", reason }));
  }

  #withoutSecrets(text: string): string {
    const { password } = this.#access;
    return password ? text.replaceAll(password, "…") : text;
  }
}

export function nameOf({ host, port }: RedisAddress): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** @returns undefined when the connection ended first. */
async function answerTo(client: Client, command: Command): Promise<Answer | undefined> {
  try {
    return { kind: "reply", reply: (await client.sendCommand(command)) as Reply };
  } catch (error) {
    return error instanceof ErrorReply ? { kind: "error", message: error.message } : undefined;
  }
}

function makeClient(
  { host, port }: RedisAddress,
  { tls, user, password }: RedisAccess,
  timeoutMs: number,
): Client {
  const socket = { host, port, connectTimeout: timeoutMs, reconnectStrategy: false } as const;
  return createClient({
    RESP: 2,
    socket: tls ? { ...socket, tls: true, ...tls } : socket,
    ...(user !== undefined && { username: user }),
    ...(password !== undefined && { password }),
    disableOfflineQueue: true,
    disableClientInfo: true,
    commandsQueueMaxLength: MAX_WAITING,
    // It would replace connections by itself.
    maintNotifications: "disabled",
    // Its time limit does not cover what was sent.
    commandOptions: { timeout: 0, typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  }) as unknown as Client;
}
