/** What is done to a wire: cut, reset, half-open or delayed. */
import type { FaultProxy, ProxiedConnection } from "../../faults/fault-proxy.ts";
import { pause } from "../clients/pace.ts";
import type { Cut } from "./kinds.ts";

/** What is lost one way for so long is noticed. */
const HALF_OPEN_MS = 4000;
const DELAY_MS = 150;

/** Resolves when it is over. @param pick even: a half-open wire loses what goes up. */
export async function cutWire(
  what: FaultProxy | ProxiedConnection,
  cut: Cut,
  pick: number,
  holdMs: number,
): Promise<void> {
  if (cut === "cut") what.cut();
  else if (cut === "reset") what.reset();
  else {
    const way = pick % 2 === 0 ? "up" : "down";
    what.fault(cut === "delayed" ? { kind: "slow", delayMs: DELAY_MS } : { kind: "lose", way });
    await pause(cut === "delayed" ? holdMs : HALF_OPEN_MS);
    what.fault({ kind: "none" });
  }
}
