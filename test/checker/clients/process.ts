/** Some of the checker's clients as one process: started with an Order, told what to do by its parent. */
import { join } from "node:path";
import { HistoryWriter, type Line, readHistory } from "../history.ts";
import { Latecomer } from "./latecomer.ts";
import { LibraryClient } from "./library-client.ts";
import { Mover } from "./mover.ts";
import { Prober } from "./prober.ts";
import { Publisher } from "./publishers.ts";
import { RawClient } from "./raw-client.ts";
import { Resender } from "./resender.ts";
import type { Answered, ClientSpec, Order, Told } from "./roster.ts";

const order = JSON.parse(process.argv[2] ?? "") as Order;
const raws = new Map<string, RawClient>();
const others: { finish(): Promise<void> }[] = [];
const publishers: Publisher[] = [];
const resenders: Resender[] = [];

function pathOf({ name }: ClientSpec): string {
  return join(order.folder, `${name}.jsonl`);
}

function begin(spec: ClientSpec, past: Line[]): void {
  const { addresses } = order;
  const writer = new HistoryWriter(pathOf(spec));
  switch (spec.kind) {
    case "raw":
      raws.set(
        spec.name,
        new RawClient(spec, addresses, writer, past, () => raws.get(spec.tokenOf ?? "")),
      );
      return;
    case "library":
      others.push(new LibraryClient(spec, addresses, writer, past));
      return;
    case "prober": {
      const newest = (own: boolean): string | undefined =>
        [...raws.values()]
          .find((raw) => (raw.spec.topic === spec.topic) === own && raw.tokens.length > 0)
          ?.tokens.at(-1);
      const tokens = () => ({ own: newest(true), foreign: newest(false) });
      others.push(new Prober(spec, addresses, writer, tokens));
      return;
    }
    case "mover":
      others.push(new Mover(spec, addresses, writer));
      return;
    case "latecomer":
      others.push(new Latecomer(spec, addresses, writer, () => raws.get(spec.lateFor ?? "")));
      return;
    case "resender":
      resenders.push(new Resender(spec, addresses, writer));
      return;
    default:
      publishers.push(
        new Publisher(spec, addresses, writer, past, order.paused.includes(spec.topic)),
      );
  }
}

async function told(message: Told): Promise<void> {
  switch (message.tell) {
    case "pause":
      await Promise.all(publishers.map((one) => one.topic === message.topic && one.halt()));
      break;
    case "resume":
      for (const one of publishers) if (one.topic === message.topic) one.goOn();
      break;
    case "settle":
      for (const raw of raws.values()) raw.hurry();
      for (const one of resenders) one.halt();
      await Promise.all(publishers.map((one) => one.halt()));
      break;
    case "finish":
      await Promise.all(
        [...raws.values(), ...others, ...publishers, ...resenders].map((one) => one.finish()),
      );
  }
  const answer: Answered = { done: message.tell };
  process.send?.(answer, () => {
    if (message.tell === "finish") process.exit(0);
  });
}

process.on("message", (message: Told) => void told(message));
process.on("disconnect", () => process.exit(0));
// All at first: of a long run that takes seconds, in which no client that has begun would be heard.
const pasts = order.clients.map((spec) => readHistory(pathOf(spec)));
for (const [i, spec] of order.clients.entries()) begin(spec, pasts[i] as Line[]);
