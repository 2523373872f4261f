/**
 * How a transaction begins: its coordinator is told what it will write to. Where that is known it is told ahead, as
 * soon as the markers of the transaction before are written: what comes then is produced and committed at once.
 *
 * B1 What was begun ahead and is not written to soon is ended again, long before Kafka would, which would fence its
 *    writer. It held no reader back: nothing was produced.
 */
import type { Place } from "./open-transactions.ts";
import { pause } from "./pause.ts";
import type { TransactionalIdentity, TransactionCoordinator } from "./transaction-coordinator.ts";

/** Markers take about so long: a question before only costs. */
const MARKERS_MS = 2;
const UNUSED_MS = 1000;

type State =
  | { readonly kind: "none" }
  | {
      readonly kind: "ahead";
      readonly sinceMs: number;
      readonly to: readonly Place[];
      readonly added: Promise<void>;
      readonly unused: NodeJS.Timeout;
    }
  | { readonly kind: "ending"; readonly ended: Promise<void> };

export class TransactionBegin {
  readonly #coordinator: TransactionCoordinator;
  readonly #identity: TransactionalIdentity;
  readonly #mayBegin: () => Promise<void>;
  #state: State = { kind: "none" };

  /** @param mayBegin as of TransactionCoordinator.addPartitions. */
  constructor(
    coordinator: TransactionCoordinator,
    identity: TransactionalIdentity,
    mayBegin: () => Promise<void>,
  ) {
    this.#coordinator = coordinator;
    this.#identity = identity;
    this.#mayBegin = mayBegin;
  }

  /** When the next transaction began, or now: its time of Kafka's counts from there. */
  get sinceMs(): number {
    return this.#state.kind === "ahead" ? this.#state.sinceMs : performance.now();
  }

  /** The transaction before was just ended. @returns when it has begun, or `begin` will say why not. */
  ahead(to: readonly Place[]): Promise<void> {
    if (this.#state.kind !== "none") throw new Error("a transaction was begun ahead already");
    const added = pause(MARKERS_MS).then(() => this.#add(to));
    const unused = setTimeout(() => this.#end(added), UNUSED_MS);
    this.#state = { kind: "ahead", sinceMs: performance.now(), to, added, unused };
    return added.catch(() => {});
  }

  /** Resolves when all of these may be written to. @throws what Kafka or the network said. */
  async begin(to: readonly Place[]): Promise<void> {
    const state = this.#state;
    this.#state = { kind: "none" };
    let left = to;
    if (state.kind === "ahead") {
      clearTimeout(state.unused);
      await state.added;
      left = to.filter((one) => !state.to.some((known) => isSame(known, one)));
    } else if (state.kind === "ending") await state.ended;
    if (left.length > 0) await this.#add(left);
  }

  #end(added: Promise<void>): void {
    const ended = added.then(() => this.#coordinator.end(this.#identity, "abort"));
    // Said by the next that begins.
    ended.catch(() => {});
    this.#state = { kind: "ending", ended };
  }

  #add(to: readonly Place[]): Promise<void> {
    return this.#coordinator.addPartitions(this.#identity, byTopic(to), this.#mayBegin);
  }
}

/** As a request names them. */
export function byTopic(places: readonly Place[]): { name: string; partitions: number[] }[] {
  const topics = Map.groupBy(places, ({ topic }) => topic.name);
  return Array.from(topics, ([name, parts]) => ({
    ...{ name, partitions: parts.map(({ partition }) => partition) },
  }));
}

function isSame(a: Place, b: Place): boolean {
  return a.topic.name === b.topic.name && a.partition === b.partition;
}
