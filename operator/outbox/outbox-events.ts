/**
 * What a person is told of an Outbox as an Event (pure): by what has changed in its conditions, so that it is told
 * once. What passes by itself, or befalls all at once, is said in status only.
 */
import type { Condition, ToldEvent } from "../kube/resource-api.ts";
import type { OutboxStatus } from "./kube-outbox.ts";

const UNTOLD = ["KafkaUnavailable", "Paused", "Starting", "StandingBy", "Interrupted"];

export function eventsOf(before: OutboxStatus, after: OutboxStatus): ToldEvent[] {
  return [...readiness(before, after), ...retainedWal(before, after)];
}

function readiness(before: OutboxStatus, after: OutboxStatus): ToldEvent[] {
  const [was, is] = [find(before, "Ready"), find(after, "Ready")];
  if (!is || (was?.status === is.status && was.reason === is.reason)) return [];
  if (is.status === "True") {
    const isBack = was?.status !== "True" && !UNTOLD.includes(was?.reason ?? "");
    // Its first word was that it starts.
    const isFirst = was?.reason === "Starting" && before.topics === undefined;
    return isBack || isFirst ? [{ type: "Normal", reason: "Running", note: is.message }] : [];
  }
  return UNTOLD.includes(is.reason)
    ? []
    : [{ type: "Warning", reason: is.reason, note: is.message }];
}

function retainedWal(before: OutboxStatus, after: OutboxStatus): ToldEvent[] {
  const [was, is] = [find(before, "RetainedWal"), find(after, "RetainedWal")];
  if (is?.status !== "True" || was?.status === "True") return [];
  return [{ type: "Warning", reason: "RetainedWal", note: is.message }];
}

function find({ conditions = [] }: OutboxStatus, wanted: string): Condition | undefined {
  return conditions.find(({ type }) => type === wanted);
}
