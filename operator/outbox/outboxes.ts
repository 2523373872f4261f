/** The Outboxes of an operator: watched from its start on, and made true from when it leads. */
import type { Log } from "../../kafka/log.ts";
import { STEADY_CLOCK } from "../../process/clock.ts";
import { ResourceWatches, type ResourceWatchesOptions } from "../kube/resource-watches.ts";
import type { WorkOutcome } from "../kube/resource-work.ts";
import type { WorkloadApi } from "../kube/workload-api.ts";
import { pause } from "../pauses.ts";
import type { ProgramSettings } from "../program-container.ts";
import type { TopicResource } from "../validate.ts";
import type { KubeOutbox, OutboxApi } from "./kube-outbox.ts";
import { OutboxController } from "./outbox-controller.ts";
import { SequencerReports } from "./sequencer-reports.ts";

const RESYNC_MS = 10_000;
const RETRY_MS = 2000;
/** Between looks at what sequencers say. */
const LISTEN_MS = 1000;

export interface OutboxesOptions
  extends Pick<
    ResourceWatchesOptions<KubeOutbox>,
    "namespaces" | "labelSelector" | "onBegin" | "onTrouble"
  > {
  readonly api: OutboxApi;
  readonly workloads: WorkloadApi;
  readonly log: Log;
  readonly deploymentId: string;
  readonly settings: ProgramSettings;
  readonly mayAct: () => boolean;
  readonly onDone: (outcome: WorkOutcome | "failed", tookMs: number) => void;
  readonly onFailure: (name: string, message: string) => void;
}

export class Outboxes {
  readonly #all = new Map<string, KubeOutbox>();
  readonly #watches: ResourceWatches<KubeOutbox>;
  readonly #reports: SequencerReports;
  readonly #controller: OutboxController;
  readonly #closing = new AbortController();
  #isLeading = false;

  constructor(options: OutboxesOptions) {
    const { api, namespaces, labelSelector, log, deploymentId, ...rest } = options;
    const world = { clock: STEADY_CLOCK, random: Math.random };
    const changed = (name: string): void => {
      if (this.#isLeading) this.#controller.queue.add(name);
    };
    this.#watches = new ResourceWatches({
      ...{ ...world, api, namespaces, labelSelector, kinds: "Outboxes", resources: this.#all },
      ...{ changed, onBegin: rest.onBegin, onTrouble: rest.onTrouble },
    });
    const clocks = { clock: STEADY_CLOCK, now: () => Date.now() };
    this.#reports = new SequencerReports(log, deploymentId, clocks, (name) => {
      if (this.#all.has(name)) changed(name);
    });
    this.#controller = new OutboxController({
      ...{ ...world, api, outboxes: this.#all, reports: this.#reports },
      ...{ workloads: rest.workloads, settings: rest.settings, mayAct: rest.mayAct },
      ...{ onDone: rest.onDone, onFailure: rest.onFailure },
      isInScope: (namespace) => namespaces?.includes(namespace) ?? true,
      now: () => new Date(),
      ...{ resyncMs: RESYNC_MS, retryMs: RETRY_MS },
    });
  }

  get all(): Iterable<KubeOutbox> {
    return this.#all.values();
  }

  /** What a person is told of a Topic whose Outbox is not here; undefined: it is, or they are not listed yet. */
  missing({ metadata: { namespace }, spec: { outbox } }: TopicResource): string | undefined {
    const isHere = outbox === undefined || this.#all.has(`${namespace}/${outbox}`);
    if (isHere || !this.#watches.areListed) return undefined;
    return `The stream is served, and this operator feeds nothing into it: it knows no Outbox "${outbox}" in namespace "${namespace}". Make it, or make another Topic: spec.outbox cannot be changed.`;
  }

  get stuckMs(): number {
    return this.#controller.queue.stuckMs;
  }

  get idleMs(): number {
    return this.#watches.idleMs;
  }

  start(): void {
    this.#watches.start();
  }

  /** From now on this operator is the one that acts. */
  lead(): void {
    this.#isLeading = true;
    for (const name of this.#all.keys()) this.#controller.queue.addAgain(name, 0);
    void this.#listen();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#watches.close();
    await this.#controller.queue.close();
  }

  async #listen(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      if (this.#all.size > 0) await this.#reports.refresh();
      else this.#reports.close();
      await pause(STEADY_CLOCK, LISTEN_MS, signal);
    }
    this.#reports.close();
  }
}
