/** The session store did what it was asked, and its answer was lost: what the client that tries again hears. */
import { expect, test } from "@jest/globals";
import { decodeToken } from "../../sidecar/token.ts";
import { SessionBed } from "./session-bed.ts";

test("a token is said to be older also where the claim that moved the session was not heard of (T7, P3)", async () => {
  let isLost = false;
  const gate = async () => (isLost ? { reason: "lost on its way", isDone: true } : undefined);
  const bed = await new SessionBed({ gate }).start();
  try {
    await bed.publish(4);
    const a = bed.stream("A", {}, { start: { at: { $case: "earliest", value: {} } } });
    const { token } = await a.next("opened");
    await a.got(4);
    a.ack(3);
    await a.leave();
    const open = (attempt: bigint) =>
      bed.stream(
        "B",
        { instance: "two", attempt, strict: true },
        { start: { at: { $case: "token", value: { token, after: [] } } } },
      );
    isLost = true;
    expect(await open(1n).failure()).toMatchObject({ name: "SESSION_STORE_UNAVAILABLE" });
    isLost = false;
    const { session } = await open(2n).next("opened");
    expect(session?.tokenIsOlder).toBe(true);
    const identity = { deploymentId: "test", topic: "shop/orders", topicId: bed.topic.id };
    const stood = decodeToken(session?.storedToken as Buffer, identity, 1);
    expect(stood.positions[0]?.offset).toBe(4);
  } finally {
    await bed.stop();
  }
});
