/** Liveness: a loop that hangs is noticed, one that only waits is not. */
import { expect, test } from "@jest/globals";
import { stuck } from "../../operator/stuck.ts";

const FINE = { work: 299_000, lease: 30_000, watch: 500_000 };

test.each([
  ["work", "stuck: for 1000 s no Topic or Outbox was begun or finished though some wait"],
  ["lease", "stuck: for 1000 s the lease was not asked for"],
  ["watch", "stuck: for 1000 s a watch did not begin anew"],
])("%s", (loop, why) => {
  expect(stuck(FINE)).toBeUndefined();
  expect(stuck({ ...FINE, [loop]: 1_000_000 })).toBe(why);
});
