/** The order of claims: the newest holds the session (P5). Pure. */
import type { Fence } from "./session-store.ts";

type Generation = Pick<Fence, "generation" | "claimId">;

export function outranks(a: Generation, b: Generation): boolean {
  return a.generation === b.generation ? a.claimId > b.claimId : a.generation > b.generation;
}
