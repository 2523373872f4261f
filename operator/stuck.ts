/** Whether a loop of the operator is stuck, so that only a new process helps (pure). Each is bounded by time limits. */

/** In milliseconds, without a sign of life. */
export interface Idle {
  /** The queue, while there is work. */
  readonly work: number;
  readonly lease: number;
  readonly watch: number;
}

/**
 * Above what the time limits of a loop's own steps add up to: a request to Kafka or to the API server ends
 * within half a minute, a watch within five minutes.
 */
const LIMITS: Readonly<Record<keyof Idle, { readonly ms: number; readonly what: string }>> = {
  work: { ms: 300_000, what: "no Topic or Outbox was begun or finished though some wait" },
  lease: { ms: 60_000, what: "the lease was not asked for" },
  watch: { ms: 900_000, what: "a watch did not begin anew" },
};

/** @returns why, for people; undefined when nothing is. */
export function stuck(idle: Idle): string | undefined {
  for (const [loop, { ms, what }] of Object.entries(LIMITS)) {
    const idleMs = idle[loop as keyof Idle];
    if (idleMs > ms) return `stuck: for ${Math.round(idleMs / 1000)} s ${what}`;
  }
  return undefined;
}
