/**
 * What an Outbox's `status` says (pure), made of its Deployment and of what its sequencers say: an ordered list of
 * checks, of which the first that finds something is the reason; and the sequencer's figures.
 */
import { isDeepStrictEqual } from "node:util";
import type { V1Deployment } from "@kubernetes/client-node";
import type { OutboxState } from "../../proto/gen/throughline/stored/v1/stored.ts";
import { conditionOf } from "../kube/condition.ts";
import type { Condition } from "../kube/resource-api.ts";
import { DEFAULT_DATABASE_KEY, DEFAULT_RETAINED_WAL } from "../outbox-schema.ts";
import { bytesOf } from "../quantities.ts";
import type { Why } from "../reconcile.ts";
import type { KubeOutbox, OutboxFigures, OutboxStatus } from "./kube-outbox.ts";
import { deploymentNameOf, OUTBOX_LABEL, replicasOf } from "./sequencer-deployment.ts";
import { SILENT_MS, type Word } from "./sequencer-reports.ts";

const MI = 1 << 20;

/** What was found of an Outbox that is to run. */
export interface Seen {
  /** As the API server has it. */
  readonly deployment: V1Deployment;
  readonly deploymentAgeMs: number;
  readonly word: Word;
}

export interface Verdict extends Why {
  /** Unknown: nobody looked. */
  readonly ready: Condition["status"];
}

interface Check {
  readonly name: string;
  readonly check: (outbox: KubeOutbox, seen: Seen) => Verdict | undefined;
}

/** A pod may take so long to be there and say its first word. */
const START_MS = 60_000;

const CHECKS: readonly Check[] = [
  {
    name: "Kafka tells what sequencers say",
    check: (_, { word }) => {
      if (typeof word !== "string") return undefined;
      const message = `What the sequencer does is not known, for Kafka does not tell: ${word}`;
      return { ready: "False", reason: "KafkaUnavailable", message };
    },
  },
  {
    name: "its pods may be made",
    check: (_, { deployment, word }) => {
      const refusal = deployment.status?.conditions?.find(
        ({ type, status }) => type === "ReplicaFailure" && status === "True",
      );
      if (word || !refusal) return undefined;
      return { ready: "False", reason: "PodsRefused", message: refusal.message ?? "" };
    },
  },
  {
    name: "a sequencer says something",
    check: (outbox, { deploymentAgeMs, word }) => {
      if (word) return undefined;
      return deploymentAgeMs < START_MS
        ? { ready: "False", reason: "Starting", message: "The sequencer's pods are starting." }
        : { ready: "False", reason: "SequencerSilent", message: silence(outbox) };
    },
  },
  {
    name: "one of them is at work",
    check: (outbox, { word }) => {
      const { state, reason, message } = word as OutboxState;
      switch (state) {
        case "running":
          return undefined;
        case "standby":
          return { ready: "False", reason: "StandingBy", message: STANDING_BY };
        case "failed":
          return { ready: "False", reason, message };
        case "waiting":
          return { ready: "False", reason, message: `${message}. ${advice(outbox, reason)}` };
        default:
          return { ready: "False", reason: "Starting", message: "The sequencer is starting." };
      }
    },
  },
  {
    name: "all of its pods are there",
    check: (outbox, { deployment }) => {
      const { readyReplicas = 0 } = deployment.status ?? {};
      const wanted = replicasOf(outbox);
      if (readyReplicas >= wanted) return undefined;
      const message = `Events are relayed; ${readyReplicas} of ${wanted} pods are ready.`;
      return { ready: "True", reason: "PodsMissing", message };
    },
  },
];

const STANDING_BY =
  "The sequencer waits for the lock of its database, which another session has. It takes over within seconds when that one is gone. If it lasts, something that is not of this Outbox has it: select * from throughline.slot tells whose the outbox is.";

function silence(outbox: KubeOutbox): string {
  const { namespace, name } = outbox.metadata;
  const within = `kubectl --namespace ${namespace}`;
  return `No sequencer has said a word for ${SILENT_MS / 1000} s: its pods cannot start, or do not reach Kafka. ${within} describe pods --selector ${OUTBOX_LABEL}=${name}; ${within} logs deployment/${deploymentNameOf(outbox)}`;
}

function advice(outbox: KubeOutbox, reason: string): string {
  if (reason !== "DatabaseUnavailable") return "It goes on by itself.";
  const { name, key = DEFAULT_DATABASE_KEY } = outbox.spec.database.secret;
  return `It goes on by itself when the database answers. Address and password are key "${key}" of Secret "${name}"; a pod sees a change of it within a minute or two.`;
}

export function verdictOf(outbox: KubeOutbox, seen: Seen): Verdict {
  for (const { check } of CHECKS) {
    const verdict = check(outbox, seen);
    if (verdict) return verdict;
  }
  return {
    ...{ ready: "True", reason: "Running" },
    message: "Events are relayed in the order of commits.",
  };
}

/** @returns undefined when it says so already: nothing is written then. */
export function changedStatus(
  outbox: KubeOutbox,
  verdict: Verdict,
  word: Word,
  now: () => string,
): OutboxStatus | undefined {
  const { conditions: known = [], ...before } = outbox.status ?? {};
  const report = typeof word === "object" ? word : undefined;
  const { ready, reason, message } = verdict;
  const own = [
    conditionOf(outbox, { type: "Ready", status: ready, reason, message }, now),
    ...retainedWal(outbox, report, known).map((said) => conditionOf(outbox, said, now)),
  ];
  // Others' conditions stay.
  const others = known.filter(({ type }) => !own.some((one) => one.type === type));
  const after: OutboxStatus = {
    ...before,
    ...{ observedGeneration: outbox.metadata.generation, deployment: deploymentNameOf(outbox) },
    ...(report && figuresOf(report)),
    conditions: [...own, ...others],
  };
  return isDeepStrictEqual(after, outbox.status) ? undefined : after;
}

/** What a sequencer that has not been at work does not know stays as it was said last. */
function figuresOf(report: OutboxState): OutboxFigures {
  const { database, slot, hasRun, lagMs, retainedWalBytes, parked, topics } = report;
  return {
    ...{ database, slot },
    ...(hasRun && {
      lagSeconds: Math.round(Number(lagMs) / 1000),
      retainedWal: inMi(retainedWalBytes),
      parked,
      topics: topics
        .map(({ name, sequence }) => ({ name, sequence: Number(sequence) }))
        .toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    }),
  };
}

/** Said only where it is or was so. */
function retainedWal(
  outbox: KubeOutbox,
  report: OutboxState | undefined,
  known: readonly Condition[],
): Pick<Condition, "type" | "status" | "reason" | "message">[] {
  if (!report?.hasRun) return [];
  const type = "RetainedWal";
  const limit = outbox.spec.limits?.retainedWal ?? DEFAULT_RETAINED_WAL;
  const isAbove = report.retainedWalBytes > BigInt(bytesOf(limit));
  if (isAbove) {
    const message = `PostgreSQL keeps more than ${limit} of its log for slot ${report.slot} (limits.retainedWal): see why events do not go on (Ready), or the disk of the database fills up. Past max_slot_wal_keep_size the slot becomes invalid.`;
    return [{ type, status: "True", reason: "AboveLimit", message }];
  }
  if (!known.some((one) => one.type === type)) return [];
  const message = `PostgreSQL keeps less than ${limit} of its log for the slot.`;
  return [{ type, status: "False", reason: "BelowLimit", message }];
}

function inMi(bytes: bigint): string {
  return `${Math.ceil(Number(bytes) / MI)}Mi`;
}
