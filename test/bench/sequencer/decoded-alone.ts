/** A slot's changes read and dropped, by the sequencer's own client: as fast as PostgreSQL decodes. */
import { PgOutput } from "../../../sequencer/pgoutput.ts";
import { openReplication } from "../../../sequencer/postgres.ts";
import { Replication } from "../../../sequencer/replication.ts";
import type { Shop } from "../../sequencer/bed.ts";
import { dropSlot, makeSlot } from "./slots.ts";

export interface DecodedAlone {
  /** @returns rows a second. */
  read(rows: number): Promise<number>;
}

/** Its slot begins here; it is dropped when it was read. */
export async function decodedAlone(shop: Shop): Promise<DecodedAlone> {
  const slot = `alone_${shop.outbox}`;
  await makeSlot(shop, slot);
  return { read: (rows) => read(shop, slot, rows) };
}

async function read(shop: Shop, slot: string, total: number): Promise<number> {
  const client = await openReplication(shop.database);
  const sinceMs = performance.now();
  let rows = 0;
  await new Promise<void>((resolve, reject) => {
    const output = new PgOutput({ begin: () => {}, insert: () => rows++, commit: () => {} });
    const replication = new Replication(client, slot, {
      change: (bytes, at, end) => output.message(bytes, at, end),
      pause: () => {
        if (rows < total) return;
        resolve();
        replication.close();
      },
      ended: reject,
    });
  });
  const seconds = (performance.now() - sinceMs) / 1000;
  await dropSlot(shop, slot);
  return total / seconds;
}
