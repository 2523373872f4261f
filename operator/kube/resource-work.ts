/** What the controllers of our kinds have in common: how a piece of work ends, its queue, and finalizers. */
import type { Clock } from "../../process/clock.ts";
import { WorkQueue } from "../work-queue.ts";
import type { KubeResource, PatchOutcome, ResourceApi } from "./resource-api.ts";

/** Between looks at a resource that is there and has other labels. */
export const UNSELECTED_MS = 60_000;

/** How a piece of work ended. `left-alone`: paused, out of scope, another's, or this one may not act. */
export type WorkOutcome = "ready" | "not-ready" | "deleted" | "deletion-waits" | "left-alone";

export interface Done {
  readonly outcome: WorkOutcome;
  /** Undefined: when it changes. */
  readonly againMs?: number;
}

export const LEFT_ALONE: Done = { outcome: "left-alone" };
/** The watch brings what it is now. */
export const CHANGED_MEANWHILE: Done = { outcome: "left-alone", againMs: 100 };

export interface WorkOptions {
  readonly clock: Clock;
  /** 0 to 1. */
  readonly random: () => number;
  readonly concurrency: number;
  readonly spare: number;
  readonly onDone: (outcome: WorkOutcome | "failed", tookMs: number) => void;
  readonly onFailure: (name: string, message: string) => void;
}

/** @param work of the resource `<namespace>/<name>`; what it throws is told, and tried again. */
export function queueOf(
  { clock, random, concurrency, spare, onDone, onFailure }: WorkOptions,
  work: (name: string) => Promise<Done>,
): WorkQueue {
  return new WorkQueue({
    ...{ clock, random, concurrency, spare, firstRetryMs: 200, longestRetryMs: 30_000 },
    groupOf: (name) => name.slice(0, name.indexOf("/")),
    work: async (name) => {
      const sinceMs = clock.now();
      let outcome: WorkOutcome | "failed" = "failed";
      try {
        const done = await work(name);
        outcome = done.outcome;
        return done.againMs;
      } finally {
        onDone(outcome, clock.now() - sinceMs);
      }
    },
    onFailure: (name, error) => onFailure(name, error.message),
  });
}

/** @returns false: it has changed, if only its status, of which the watch asks for no work. */
export async function setFinalizer<Resource extends KubeResource>(
  api: Pick<ResourceApi<Resource>, "patchFinalizers">,
  resource: Resource,
  finalizer: string,
  isThere: boolean,
): Promise<boolean> {
  const others = (resource.metadata.finalizers ?? []).filter((one) => one !== finalizer);
  const finalizers = isThere ? [...others, finalizer] : others;
  const patched = await api.patchFinalizers(resource, finalizers);
  assertDone(patched);
  return patched.kind !== "conflict";
}

/** What is gone, or another by now, comes again through the watch. */
export function assertDone(outcome: PatchOutcome): void {
  if (outcome.kind === "failed") throw new Error(outcome.reason);
}
