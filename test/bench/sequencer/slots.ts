/** Slots of others than the sequencer, in the same database. */
import { setTimeout as pause } from "node:timers/promises";
import type { Shop } from "../../sequencer/bed.ts";

const IN_USE = "55006";

/** It begins here. */
export async function makeSlot({ sql }: Shop, slot: string): Promise<void> {
  await sql.query("select pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
}

/** Of a reader that has gone PostgreSQL hears a little later. */
export async function dropSlot({ sql }: Shop, slot: string): Promise<void> {
  for (;;) {
    try {
      await sql.query("select pg_drop_replication_slot($1)", [slot]);
      return;
    } catch (error) {
      if ((error as { code?: string }).code !== IN_USE) throw error;
      await pause(50);
    }
  }
}
