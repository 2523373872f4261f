/**
 * What of a fetch is committed (pure), for kafkajs, whose own filter shows aborted events: it takes the aborted
 * transactions in the order in which the broker lists them, which is that of their ends, and one for each
 * message, so that of two which were open before a fetch began the second is heard of a message too late.
 */
export interface AbortedTransaction {
  readonly producerId: string;
  readonly firstOffset: string;
}

export interface FetchedMessage {
  readonly offset: string;
  readonly key: Buffer | null;
  readonly batchContext: { readonly producerId: string; readonly inTransaction: boolean };
}

/** Version 0, type 0: https://kafka.apache.org/documentation/#controlbatch */
const ABORT = Buffer.from([0, 0, 0, 0]);

export function committedOnly<M extends FetchedMessage>(
  messages: readonly M[],
  abortedTransactions: readonly AbortedTransaction[],
): M[] {
  const left = abortedTransactions.toSorted(
    (a, b) => Number(a.firstOffset) - Number(b.firstOffset),
  );
  const aborting = new Set<string>();
  return messages.filter(({ offset, key, batchContext: { producerId, inTransaction } }) => {
    while (left[0] && Number(left[0].firstOffset) <= Number(offset)) {
      aborting.add((left.shift() as AbortedTransaction).producerId);
    }
    if (key && Buffer.from(key).equals(ABORT)) {
      aborting.delete(producerId);
      return true;
    }
    return !(inTransaction && aborting.has(producerId));
  });
}
