/** The replication client against a peer of ours: what it confirms, when it reads, how it ends. */
import { type Duplex, duplexPair } from "node:stream";
import { beforeEach, expect, test } from "@jest/globals";
import type { Client } from "pg";
import { Replication } from "../../sequencer/replication.ts";
import { WireFrames } from "../../sequencer/wire-frames.ts";
import { frame } from "./pgoutput-bytes.ts";

let peer: Duplex;
let client: Client;
/** Changes and ends, as they are told. */
let told: string[];
/** Status updates: the LSN that each confirms. */
let confirmed: bigint[];
let hear: () => void;
let query: Promise<string>;

beforeEach(() => {
  const [ours, theirs] = duplexPair();
  peer = theirs;
  client = { connection: { stream: ours } } as unknown as Client;
  told = [];
  confirmed = [];
  hear = () => {};
  const frames = new WireFrames();
  query = new Promise((resolve) =>
    peer.on("data", (chunk: Buffer) => {
      frames.push(chunk, (bytes, at, end) => {
        if (bytes[at] === 0x51) resolve(bytes.toString("latin1", at + 5, end));
        else confirmed.push(bytes.readBigUInt64BE(at + 6));
      });
      hear();
    }),
  );
});

function open(onPause: (replication: Replication) => void = () => {}): Replication {
  const replication: Replication = new Replication(client, "a_slot", {
    change: (bytes, at, end) => told.push(bytes.toString("latin1", at, end)),
    pause: () => onPause(replication),
    ended: ({ message }) => {
      told.push(message);
      hear();
    },
  });
  return replication;
}

function wal(change: string): Buffer {
  return frame("d", Buffer.concat([Buffer.from("w"), Buffer.alloc(24), Buffer.from(change)]));
}

function keepalive(lsn: bigint, wantsReply: boolean): Buffer {
  const body = Buffer.alloc(18);
  body.write("k");
  body.writeBigUInt64BE(lsn, 1);
  body[17] = wantsReply ? 1 : 0;
  return frame("d", body);
}

/** Resolves when it holds. */
function until(holds: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    hear = () => holds() && resolve();
    hear();
  });
}

test("it asks for the slot's changes in binary, from where the slot is", async () => {
  const replication = open();
  expect(await query).toBe(
    `START_REPLICATION SLOT "a_slot" LOGICAL 0/0 (proto_version '1', publication_names '"throughline"', binary 'true')\0`,
  );
  replication.close();
});

test("a keepalive is answered with what is confirmed, not with what was received", async () => {
  const replication = open();
  peer.write(Buffer.concat([frame("W", Buffer.alloc(3)), wal("one"), keepalive(500n, true)]));
  await until(() => confirmed.length > 0);
  expect([told, new Set(confirmed), replication.serverLsn]).toEqual([["one"], new Set([0n]), 500n]);
  replication.confirm(300n);
  replication.confirm(200n);
  await until(() => confirmed.includes(300n));
  const before = confirmed.length;
  peer.write(keepalive(600n, true));
  await until(() => confirmed.length > before);
  expect(new Set(confirmed)).toEqual(new Set([0n, 300n]));
  expect(confirmed.at(-1)).toBe(300n);
  replication.close();
});

test("confirmations that come close together go out together, the last of them", async () => {
  const replication = open();
  for (let lsn = 1n; lsn <= 100n; lsn++) replication.confirm(lsn);
  await until(() => confirmed.at(-1) === 100n);
  expect(confirmed.length).toBeLessThan(5);
  replication.close();
});

test("while it is paused nothing is read", async () => {
  const replication = open((one) => {
    if (told.length === 1) one.pause();
  });
  peer.write(wal("one"));
  await query;
  peer.write(wal("two"));
  replication.confirm(7n);
  await until(() => confirmed.includes(7n));
  expect(told).toEqual(["one"]);
  replication.resume();
  peer.write(keepalive(1n, true));
  await until(() => confirmed.length > 1);
  expect(told).toEqual(["one", "two"]);
  replication.close();
});

test("an error of PostgreSQL ends it in its words, once", async () => {
  open();
  const fields = ["SFATAL", "C57P01", "Mterminating connection", "Hask the admin", ""];
  peer.write(frame("E", Buffer.from(`${fields.join("\0")}\0`)));
  await until(() => told.length > 0);
  peer.destroy();
  expect(told).toEqual(["PostgreSQL: terminating connection; ask the admin"]);
});

test("what a change is refused for ends it", async () => {
  const replication = new Replication(client, "a_slot", {
    change: () => {
      throw new Error("not ours");
    },
    pause: () => {},
    ended: ({ message }) => {
      told.push(message);
      hear();
    },
  });
  peer.write(wal("one"));
  await until(() => told.length > 0);
  expect(told).toEqual(["not ours"]);
  replication.close();
  expect(told).toHaveLength(1);
});
