/**
 * Makes Outboxes of an API server true: gather (Deployment, and what the sequencers say), decide, act; then the
 * status, written only when it has changed, and an Event where a person must know.
 *
 * - X1 An Outbox has a finalizer before anything of it runs: a slot that is left behind fills a database's disk.
 * - X2 It goes when its slot is given up: the Deployment's pod that retires is ready then. Whoever cannot have that
 *   says so by annotation.
 * - X3 Nothing of another owner's is touched.
 */
import type { V1Deployment } from "@kubernetes/client-node";
import { ABANDON_SLOT, isOn, misunderstood, PAUSE } from "../annotations.ts";
import { sentence } from "../kube/condition.ts";
import type { ToldEvent } from "../kube/resource-api.ts";
import {
  assertDone,
  CHANGED_MEANWHILE,
  type Done,
  LEFT_ALONE,
  queueOf,
  setFinalizer,
  UNSELECTED_MS,
  type WorkOptions,
} from "../kube/resource-work.ts";
import type { WorkloadApi } from "../kube/workload-api.ts";
import type { ProgramSettings } from "../program-container.ts";
import type { Why } from "../reconcile.ts";
import type { WorkQueue } from "../work-queue.ts";
import type { KubeOutbox, OutboxApi } from "./kube-outbox.ts";
import { eventsOf } from "./outbox-events.ts";
import { changedStatus, type Verdict, verdictOf } from "./outbox-status.ts";
import {
  type Deed,
  deploymentNameOf,
  sequencerAccount,
  sequencerDeployment,
} from "./sequencer-deployment.ts";
import type { SequencerReports } from "./sequencer-reports.ts";

export const FINALIZER = "throughline.dev/slot";
const ANNOTATIONS = [PAUSE, ABANDON_SLOT];

type Applied =
  | { readonly kind: "applied"; readonly deployment: V1Deployment }
  | { readonly kind: "not"; readonly why: Why };

export interface OutboxControllerOptions extends Omit<WorkOptions, "concurrency" | "spare"> {
  readonly api: OutboxApi;
  readonly workloads: WorkloadApi;
  /** By `<namespace>/<name>`. */
  readonly outboxes: ReadonlyMap<string, KubeOutbox>;
  readonly isInScope: (namespace: string) => boolean;
  readonly reports: Pick<SequencerReports, "of">;
  readonly settings: ProgramSettings;
  readonly now: () => Date;
  readonly mayAct: () => boolean;
  readonly resyncMs: number;
  /** While an Outbox is not Ready. */
  readonly retryMs: number;
}

export class OutboxController {
  readonly queue: WorkQueue;
  readonly #options: OutboxControllerOptions;
  /** What was applied last and what it was then, by Outbox: as long as both are so, nothing is to be written. */
  readonly #applied = new Map<string, { readonly wish: string; readonly version: string }>();

  /** What was told last, by Outbox. */
  readonly #told = new Map<string, string>();

  constructor(options: OutboxControllerOptions) {
    this.#options = options;
    this.queue = queueOf({ ...options, concurrency: 8, spare: 2 }, (name) => this.#work(name));
  }

  async #work(name: string): Promise<Done> {
    const { outboxes, mayAct, retryMs } = this.#options;
    if (!mayAct()) return { ...LEFT_ALONE, againMs: retryMs };
    const outbox = outboxes.get(name);
    if (outbox === undefined) return this.#gone(name);
    return outbox.metadata.deletionTimestamp === undefined
      ? this.#run(outbox)
      : this.#delete(outbox);
  }

  /** Or it is there and no concern of this operator (labels), but nobody else would let it go. */
  async #gone(fullName: string): Promise<Done> {
    this.#applied.delete(fullName);
    this.#told.delete(fullName);
    const [namespace = "", name = ""] = fullName.split("/");
    if (!this.#options.isInScope(namespace)) return LEFT_ALONE;
    const found = await this.#options.api.find(namespace, name);
    if (found.kind === "failed") throw new Error(found.reason);
    if (found.kind === "gone") return { outcome: "deleted" };
    return found.resource.metadata.deletionTimestamp === undefined
      ? { ...LEFT_ALONE, againMs: UNSELECTED_MS }
      : this.#delete(found.resource);
  }

  async #run(outbox: KubeOutbox): Promise<Done> {
    const { api, reports, resyncMs, retryMs, random } = this.#options;
    const { finalizers = [], namespace } = outbox.metadata;
    const halt = isLeftAlone(outbox);
    if (halt) {
      await this.#say(outbox, { ready: "Unknown", ...halt });
      return LEFT_ALONE;
    }
    if (!finalizers.includes(FINALIZER)) {
      // What is about to go with its namespace is not begun. Its deletion comes through the watch.
      if (await api.isTerminating(namespace)) return { ...LEFT_ALONE, againMs: resyncMs };
      // X1. Its change comes back through the watch, and the work with it.
      return (await this.#finalizer(outbox, true)) ? LEFT_ALONE : CHANGED_MEANWHILE;
    }
    const applied = await this.#apply(outbox, "run");
    const verdict: Verdict =
      applied.kind === "not"
        ? { ready: "False", ...applied.why }
        : verdictOf(outbox, {
            deployment: applied.deployment,
            deploymentAgeMs: this.#ageMs(applied.deployment),
            word: reports.of(nameOf(outbox)),
          });
    await this.#say(outbox, verdict);
    const isReady = verdict.ready === "True";
    const againMs = (isReady ? resyncMs : retryMs) * (0.9 + random() / 5);
    return { outcome: isReady ? "ready" : "not-ready", againMs };
  }

  async #delete(outbox: KubeOutbox): Promise<Done> {
    const { retryMs, random } = this.#options;
    if (!outbox.metadata.finalizers?.includes(FINALIZER)) return LEFT_ALONE;
    const why = isOn(outbox, ABANDON_SLOT) ? undefined : await this.#retire(outbox);
    if (why) {
      await this.#say(outbox, { ready: "False", ...waiting(outbox, why) });
      return { outcome: "deletion-waits", againMs: retryMs * (0.5 + random() / 2) };
    }
    // The Deployment goes with its owner.
    return (await this.#finalizer(outbox, false)) ? { outcome: "deleted" } : CHANGED_MEANWHILE;
  }

  /** X2 @returns why the slot is not given up yet. */
  async #retire(outbox: KubeOutbox): Promise<Why | undefined> {
    const applied = await this.#apply(outbox, "retire");
    if (applied.kind === "not") return applied.why;
    const { metadata, spec, status = {} } = applied.deployment;
    const isSeen = status.observedGeneration === metadata?.generation;
    const { replicas, updatedReplicas, readyReplicas } = status;
    const isAlone = replicas === spec?.replicas && updatedReplicas === replicas;
    if (isSeen && isAlone && readyReplicas === replicas) return undefined;
    const word = this.#options.reports.of(nameOf(outbox));
    return typeof word === "object" && word.message
      ? { reason: word.reason, message: word.message }
      : { reason: "Retiring", message: "The sequencer's pod that gives it up is not ready yet." };
  }

  /** The Deployment as it should be, and its account. What is so already is not written. */
  async #apply(outbox: KubeOutbox, deed: Deed): Promise<Applied> {
    const { workloads, settings } = this.#options;
    const { namespace, uid } = outbox.metadata;
    const name = deploymentNameOf(outbox);
    const found = await workloads.deployment(namespace, name);
    if (found.kind === "failed") throw new Error(found.reason);
    // X3
    if (found.kind === "found" && controllerOf(found.deployment) !== uid)
      return { kind: "not", why: notOurs(namespace, name) };
    const account = sequencerAccount(outbox);
    const deployment = sequencerDeployment(outbox, settings, deed);
    const wish = JSON.stringify([uid, account, deployment]);
    const known = this.#applied.get(nameOf(outbox));
    if (
      found.kind === "found" &&
      known?.wish === wish &&
      known.version === found.deployment.metadata?.resourceVersion
    )
      return { kind: "applied", deployment: found.deployment };
    const first = await workloads.apply(account);
    const made = first.kind === "applied" ? await workloads.apply(deployment) : first;
    if (made.kind === "failed") throw new Error(made.reason);
    if (made.kind === "refused")
      return { kind: "not", why: { reason: "DeploymentRefused", message: made.reason } };
    const version = made.object.metadata?.resourceVersion ?? "";
    this.#applied.set(nameOf(outbox), { wish, version });
    return { kind: "applied", deployment: made.object };
  }

  async #say(outbox: KubeOutbox, verdict: Verdict): Promise<void> {
    const { api, now, reports } = this.#options;
    const time = (): string =>
      now()
        .toISOString()
        .replace(/\.\d+Z$/, "Z");
    const status = changedStatus(outbox, verdict, reports.of(nameOf(outbox)), time);
    if (!status) return;
    const patched = await api.patchStatus(outbox, status);
    assertDone(patched);
    if (patched.kind === "patched")
      for (const event of eventsOf(outbox.status ?? {}, status)) this.#tell(outbox, event);
  }

  /** A sequencer's word may come before the watch tells of the status that was written: nothing is told twice. */
  #tell(outbox: KubeOutbox, event: ToldEvent): void {
    const last = JSON.stringify([outbox.metadata.uid, event]);
    if (this.#told.get(nameOf(outbox)) === last) return;
    this.#told.set(nameOf(outbox), last);
    // Nothing waits for what a person may read.
    void this.#options.api.tell(outbox, event);
  }

  #finalizer(outbox: KubeOutbox, isThere: boolean): Promise<boolean> {
    return setFinalizer(this.#options.api, outbox, FINALIZER, isThere);
  }

  #ageMs({ metadata }: V1Deployment): number {
    const made = metadata?.creationTimestamp;
    return made ? this.#options.now().getTime() - new Date(made).getTime() : 0;
  }
}

function nameOf({ metadata: { namespace, name } }: KubeOutbox): string {
  return `${namespace}/${name}`;
}

function controllerOf({ metadata }: V1Deployment): string | undefined {
  return metadata?.ownerReferences?.find(({ controller }) => controller)?.uid;
}

function notOurs(namespace: string, name: string): Why {
  return {
    reason: "DeploymentNotOurs",
    message: `A Deployment ${name} is there that is not this Outbox's. It is left alone: kubectl --namespace ${namespace} delete deployment ${name} lets this one be made, or give the Outbox another name.`,
  };
}

/** Why nothing is done for it, as a person asked; undefined: it is to be made true. */
function isLeftAlone(outbox: KubeOutbox): Why | undefined {
  const message = misunderstood(outbox, ANNOTATIONS);
  if (message) {
    const untouched = `${message} Until then its Deployment is left alone.`;
    return { reason: "InvalidAnnotation", message: untouched };
  }
  return isOn(outbox, PAUSE)
    ? {
        reason: "Paused",
        message: `Its Deployment is left alone while the annotation ${PAUSE} is "true"; a sequencer that runs goes on.`,
      }
    : undefined;
}

function waiting({ metadata, status }: KubeOutbox, { reason, message }: Why): Why {
  const slot = status?.slot ?? "of this Outbox";
  const where = status?.database ? ` in ${status.database}` : "";
  const sql = status?.slot ? `: select pg_drop_replication_slot('${status.slot}')` : "";
  return {
    reason: "DeletionWaits",
    message: `Replication slot ${slot}${where} is not dropped yet: ${reason}: ${sentence(message)} It is tried again. If that cannot be (the database is gone for good, or the namespace is being deleted and nothing can run in it), annotate the Outbox with ${ABANDON_SLOT}: "true" (kubectl --namespace ${metadata.namespace} annotate outbox ${metadata.name} ${ABANDON_SLOT}=true). A slot that is left keeps PostgreSQL's log until its disk is full; drop it by hand where the database is there${sql}.`,
  };
}
