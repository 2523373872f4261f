/**
 * The app in the pods: takes a topic's events by a named session, from the server in its own pod, and books them
 * before it acknowledges them, at an office outside (records.ts). Ends when it was told to (SIGTERM) and its server
 * has led it away, or after as many events as it was asked to take.
 */
import { ThroughlineClient } from "../../client/client.ts";
import type { Entry } from "./records.ts";

const { OFFICE = "", POD = "", THROUGHLINE_ADDRESS = "" } = process.env;
const { TOPIC = "", SESSION = "", MODE = "" } = process.env;
const take = Number(process.env["TAKE"] ?? Number.POSITIVE_INFINITY);

let booked: Promise<unknown> = Promise.resolve();
/** One after the other, in the order of the calls. */
function book(entry: Entry): Promise<unknown> {
  booked = booked.then(async () => {
    const response = await fetch(OFFICE, { method: "POST", body: JSON.stringify(entry) });
    if (!response.ok) throw new Error(`The office answers ${response.status}`);
  });
  return booked;
}

let isTold = false;
let isMoved = false;
const over = new AbortController();
process.on("SIGTERM", () => {
  isTold = true;
  void book({ pod: POD, kind: "told to end" });
});
const client = new ThroughlineClient([THROUGHLINE_ADDRESS]);
const deliveries = client.subscribe({
  ...{ topic: TOPIC, start: { $case: "earliest", value: {} }, signal: over.signal },
  // Who takes little ahead soon comes to what is said after it.
  creditEvents: 100,
  session: { name: SESSION, acks: "explicit", mode: MODE as "exclusive" | "shared" },
  onNotice: ({ $case }) => {
    if ($case === "moving") isMoved = true;
    void book({ pod: POD, kind: $case });
  },
  // There is no other server in a pod; this one has no more to give, as often as it is asked.
  onBreak: () => {
    if (isTold && isMoved) over.abort();
  },
});
let taken = 0;
for await (const delivery of deliveries) {
  const { partition, maybeRedelivered: marked } = delivery;
  const events = delivery.events.map(({ offset, payload }) => {
    return { partition, offset: Number(offset), value: payload?.toString() ?? "", marked };
  });
  await book({ pod: POD, kind: "events", events });
  delivery.ack();
  taken += delivery.events.length;
  if (taken >= take) break;
}
client.close();
await book({ pod: POD, kind: "ends" });
