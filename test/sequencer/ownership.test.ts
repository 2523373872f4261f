/** One at a time: what a standby does while it waits. The rest of it is shown on a real PostgreSQL. */
import { expect, test } from "@jest/globals";
import { takeLock } from "../../sequencer/ownership.ts";

/** A connection whose answers are these, and then none. */
function answering(...taken: boolean[]) {
  const timeouts: number[] = [];
  const gone = Promise.withResolvers<never>();
  let onTimeout = (): void => {};
  const stream = {
    setTimeout: (ms: number, then: () => void) => {
      timeouts.push(ms);
      onTimeout = then;
    },
    destroy: () => gone.reject(new Error("closed")),
  };
  const query = async (text: string) => {
    if (!text.includes("pg_try_advisory_lock")) return { rows: [] };
    const next = taken.shift();
    return next === undefined ? gone.promise : { rows: [{ taken: next }] };
  };
  return { sql: { query, connection: { stream } } as never, timeouts, silence: () => onTimeout() };
}

test("a standby closes a connection that is not answered: another one may be", async () => {
  const { sql, silence } = answering(false);
  let standbys = 0;
  let looks = 0;
  const taking = takeLock(sql, {
    onStandby: () => standbys++,
    pause: async () => void looks++,
  });
  while (looks === 0) await Promise.resolve();
  silence();
  await expect(taking).rejects.toThrow("closed");
  expect(standbys).toBe(1);
});

test("who has the lock may be silent", async () => {
  const { sql, timeouts } = answering(false, true);
  await takeLock(sql, { onStandby: () => {}, pause: async () => {} });
  expect(timeouts).toEqual([10_000, 0]);
});
