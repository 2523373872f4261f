/**
 * Mends kafkajs before anybody loads it: its filter takes the aborted transactions of a fetch in the order in
 * which the broker lists them and waits for each in turn, but they are listed by their ends. Where those of
 * several producers overlap it would show aborted events as committed ones (Kafka's own consumer sorts them).
 */
import { createRequire } from "node:module";

interface Aborted {
  readonly firstOffset: string;
}

interface Fetched {
  readonly messages: readonly unknown[];
  readonly abortedTransactions?: readonly Aborted[] | null;
}

const require = createRequire(import.meta.url);
const path = require.resolve("kafkajs/src/consumer/filterAbortedMessages");
const filter = require(path) as (fetched: Fetched) => unknown;
const loaded = require.cache[path];
if (!loaded) throw new Error("kafkajs's filter is not where it was");
loaded.exports = ({ messages, abortedTransactions }: Fetched): unknown =>
  filter({
    messages,
    abortedTransactions: (abortedTransactions ?? []).toSorted(
      (a, b) => Number(a.firstOffset) - Number(b.firstOffset),
    ),
  });
