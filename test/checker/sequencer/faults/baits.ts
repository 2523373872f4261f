/** What shows on the wire when a step of a batch is about to be done, and on which leg. */
import type { Bait } from "../../faults/trap.ts";
import type { LEGS, Step } from "./kinds.ts";

export const BAITS: Readonly<Record<Step, Bait & { readonly leg: (typeof LEGS)[number] }>> = {
  /** The type of each event, in its row. */
  decode: { leg: "database", way: "down", bytes: Buffer.from("made") },
  /** The statement's name, as it is bound. */
  stamp: { leg: "database", way: "up", bytes: Buffer.from("\0stamp\0") },
  /** EndTxn, in the version that is used. */
  commit: { leg: "kafka", way: "up", bytes: Buffer.from([0, 26, 0, 3]) },
  /** A status update, in its frame. */
  confirm: { leg: "database", way: "up", bytes: Buffer.from([0x64, 0, 0, 0, 38, 0x72]) },
};
