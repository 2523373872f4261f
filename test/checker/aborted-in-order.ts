/** Mends kafkajs before anybody loads it: committed-only.ts says what is wrong with its filter. */
import { createRequire } from "node:module";
import { type AbortedTransaction, committedOnly, type FetchedMessage } from "./committed-only.ts";

interface Fetched {
  readonly messages: readonly FetchedMessage[];
  readonly abortedTransactions?: readonly AbortedTransaction[] | null;
}

const require = createRequire(import.meta.url);
const path = require.resolve("kafkajs/src/consumer/filterAbortedMessages");
require(path);
const loaded = require.cache[path];
if (!loaded) throw new Error("kafkajs's filter is not where it was");
loaded.exports = ({ messages, abortedTransactions }: Fetched): unknown =>
  committedOnly(messages, abortedTransactions ?? []);
