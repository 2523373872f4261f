/** Places in PostgreSQL's log (pure): 64 bits, written by PostgreSQL as two hexadecimal numbers. */

/** Where an event is: the commit record of its transaction, and its place among the transaction's events. */
export interface Place {
  readonly commitId: bigint;
  readonly index: number;
}

export function lsnOf(text: string): bigint {
  const [high, low] = text.split("/");
  return (BigInt(`0x${high}`) << 32n) | BigInt(`0x${low}`);
}

export function lsnText(lsn: bigint): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`.toUpperCase();
}

export function isAfter(one: Place, other: Place): boolean {
  return one.commitId === other.commitId ? one.index > other.index : one.commitId > other.commitId;
}
