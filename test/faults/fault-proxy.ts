/**
 * A TCP proxy that fails on command: between a client and a server, or between a server and Kafka.
 *
 * A fault is a lasting state of a connection (frozen, half-open, slow); `cut` and `reset` are deeds. Both
 * can be done to one connection or to the whole proxy, whose fault also holds for connections to come.
 *
 * Before a Kafka broker, the broker must advertise the proxy's address, or its clients go around it:
 * listen first, start Kafka with `proxy.advertised()`, then point the proxy at it with `target`.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** `up` is from the client to the server. */
export type Way = "up" | "down";

export type Fault =
  | { readonly kind: "none" }
  /** No byte passes and no end of a connection is told; nothing is lost when it is over. */
  | { readonly kind: "freeze" }
  /** Half-open: what goes this way is lost. When that is over the connection is reset. */
  | { readonly kind: "lose"; readonly way: Way }
  /** Every byte is late, or few pass. Order is kept. */
  | { readonly kind: "slow"; readonly delayMs?: number; readonly bytesPerSecond?: number };

const NONE: Fault = { kind: "none" };
/** What one direction may hold back before its sender feels it. */
const HELD_BYTES = 4 << 20;

export interface FaultProxyOptions {
  /** The port on loopback that is stood before; may be set later. */
  readonly target?: number;
  /** Sees what a client sends before it passes: to find the connections that a test means. */
  readonly onUp?: (connection: ProxiedConnection, bytes: Buffer) => void;
  /** The same of what the server sends. */
  readonly onDown?: (connection: ProxiedConnection, bytes: Buffer) => void;
}

export class FaultProxy {
  readonly port: number;
  readonly connections = new Set<ProxiedConnection>();
  /** Connections taken so far. */
  accepted = 0;
  target: number | undefined;
  readonly #server: Server;
  #fault: Fault = NONE;

  private constructor(server: Server, options: FaultProxyOptions) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    this.target = options.target;
    server.on("connection", (client) => {
      this.accepted++;
      if (this.target === undefined) return client.resetAndDestroy();
      const connection = new ProxiedConnection(client, this.target, options, () =>
        this.connections.delete(connection),
      );
      this.connections.add(connection);
      connection.fault(this.#fault);
    });
  }

  static async listen(options: FaultProxyOptions = {}): Promise<FaultProxy> {
    const server = createServer({ allowHalfOpen: true });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new FaultProxy(server, options);
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Settings of a broker that stands behind this proxy. */
  advertised(): Record<string, string> {
    return { "advertised.listeners": `PLAINTEXT://${this.address}` };
  }

  /** For all connections, and those to come. */
  fault(fault: Fault): void {
    this.#fault = fault;
    for (const connection of [...this.connections]) connection.fault(fault);
  }

  heal(): void {
    this.fault(NONE);
  }

  cut(): void {
    for (const connection of [...this.connections]) connection.cut();
  }

  reset(): void {
    for (const connection of [...this.connections]) connection.reset();
  }

  async close(): Promise<void> {
    this.reset();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

export class ProxiedConnection {
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #up: Lane;
  readonly #down: Lane;
  #over = false;
  readonly #gone: () => void;

  constructor(
    client: Socket,
    target: number,
    { onUp, onDown }: FaultProxyOptions,
    gone: () => void,
  ) {
    this.#client = client;
    this.#server = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
    this.#gone = gone;
    this.#up = new Lane(client, this.#server, (bytes) => onUp?.(this, bytes));
    this.#down = new Lane(this.#server, client, (bytes) => onDown?.(this, bytes));
    for (const socket of [client, this.#server]) {
      socket.setNoDelay(true);
      // A peer that died with a reset makes the other side hear one too.
      socket.on("error", () => this.reset());
      socket.on("close", () => {
        if (client.destroyed && this.#server.destroyed) this.#end();
      });
    }
  }

  /** Bytes were lost: the two sides do not agree any more. */
  get lost(): boolean {
    return this.#up.lost || this.#down.lost;
  }

  fault(fault: Fault): void {
    if (this.lost && fault.kind !== "lose") {
      this.reset();
      return;
    }
    this.#up.fault(fault.kind === "lose" && fault.way === "down" ? NONE : fault);
    this.#down.fault(fault.kind === "lose" && fault.way === "up" ? NONE : fault);
  }

  /** Both sides are closed in order. */
  cut(): void {
    this.#end();
    this.#client.destroySoon();
    this.#server.destroySoon();
  }

  /** Both sides hear a TCP reset. */
  reset(): void {
    this.#end();
    // Both calls do nothing on a socket that is closed already.
    this.#client.resetAndDestroy();
    this.#server.resetAndDestroy();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#up.close();
    this.#down.close();
    this.#gone();
  }
}

/** One direction: what was read and has not passed yet, in order. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #held: (Buffer | "end")[] = [];
  #heldBytes = 0;
  #fault: Fault = NONE;
  #timer: NodeJS.Timeout | undefined;
  #freeAtMs = 0;
  #closed = false;
  lost = false;

  constructor(from: Socket, to: Socket, sees: (bytes: Buffer) => void) {
    this.#from = from;
    this.#to = to;
    from.on("data", (bytes: Buffer) => {
      sees(bytes);
      this.#take(bytes);
    });
    from.on("end", () => this.#take("end"));
    to.on("drain", () => this.#move());
  }

  fault(fault: Fault): void {
    this.#fault = fault;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#move();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #take(what: Buffer | "end"): void {
    if (this.#closed) return;
    if (this.#fault.kind === "lose") {
      this.lost = true;
      return;
    }
    this.#held.push(what);
    this.#heldBytes += what.length;
    if (this.#heldBytes > HELD_BYTES) this.#from.pause();
    this.#move();
  }

  #move(): void {
    if (this.#closed) return;
    if (this.#fault.kind === "slow") {
      this.#moveLater(this.#fault);
      return;
    }
    if (this.#fault.kind === "freeze") return;
    while (this.#held.length > 0 && !this.#to.writableNeedDrain) this.#pass();
  }

  /** One piece per timer, so that the order of timers does not matter. */
  #moveLater({ delayMs = 0, bytesPerSecond }: Extract<Fault, { kind: "slow" }>): void {
    const next = this.#held[0];
    if (this.#timer !== undefined || next === undefined || this.#to.writableNeedDrain) return;
    const nowMs = performance.now();
    const costMs = bytesPerSecond === undefined ? 0 : (next.length * 1000) / bytesPerSecond;
    const dueMs = Math.max(nowMs + delayMs, this.#freeAtMs + costMs);
    this.#freeAtMs = dueMs;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#pass();
      this.#move();
    }, dueMs - nowMs);
  }

  #pass(): void {
    const what = this.#held.shift();
    if (what === undefined) return;
    if (what === "end") {
      this.#to.end();
      return;
    }
    this.#heldBytes -= what.length;
    if (this.#heldBytes <= HELD_BYTES) this.#from.resume();
    this.#to.write(what);
  }
}
