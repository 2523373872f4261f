/** What PostgreSQL sends, decoded: frames however they are cut, rows by the names of their columns. */
import { describe, expect, test } from "@jest/globals";
import type { FailClosed } from "../../sequencer/fail-closed.ts";
import { lsnOf, lsnText } from "../../sequencer/lsn.ts";
import { type Changes, PgOutput } from "../../sequencer/pgoutput.ts";
import { WireFrames } from "../../sequencer/wire-frames.ts";
import {
  begin,
  commit,
  event,
  frame,
  insert,
  int64,
  OUTBOX_COLUMNS,
  relation,
} from "./pgoutput-bytes.ts";

function heard(): Changes & { readonly said: string[] } {
  const said: string[] = [];
  return {
    said,
    begin: ({ id, timeUs }) => said.push(`begin ${id} at ${timeUs}`),
    insert: ({ id, topic, type, key, payload, headers }) =>
      said.push(`${id} ${topic} ${type} ${key} ${payload} ${headers}`),
    commit: (endLsn) => said.push(`commit, then ${endLsn}`),
  };
}

function decoded(...messages: Buffer[]): string[] {
  const to = heard();
  const output = new PgOutput(to);
  for (const message of messages) output.message(message, 0, message.length);
  return to.said;
}

function reasonOf(...messages: Buffer[]): string {
  try {
    decoded(...messages);
  } catch (error) {
    return (error as FailClosed).reason;
  }
  return "none";
}

test("messages come whole and once, wherever their bytes are cut", () => {
  const bodies = ["", "a", "bcd", "x".repeat(300)].map((text) => Buffer.from(text));
  const stream = Buffer.concat(bodies.map((body) => frame("d", body)));
  for (let size = 1; size <= stream.length; size++) {
    const frames = new WireFrames();
    const found: string[] = [];
    for (let at = 0; at < stream.length; at += size)
      frames.push(stream.subarray(at, at + size), (bytes, from, end) => {
        expect(bytes[from]).toBe(0x64);
        found.push(bytes.toString("latin1", from + 5, end));
      });
    expect(found).toEqual(bodies.map(String));
  }
});

test("a length that cannot be ends it", () => {
  const frames = new WireFrames();
  expect(() => frames.push(Buffer.from("d\0\0\0\x01rest"), () => {})).toThrow(/impossible/);
});

test("a transaction: its commit, its rows in order, where the log goes on", () => {
  const headers = Buffer.from('\x01{"a": "b"}');
  const row = insert([
    ...[int64(5n), Buffer.from("orders"), Buffer.from(""), Buffer.from("k")],
    ...[Buffer.from("p"), headers],
  ]);
  const like = (type: string): Buffer =>
    insert([int64(6n), Buffer.from("orders"), Buffer.from(type), null, null, null]);
  expect(
    decoded(
      ...[begin(100n, 7n), relation(), event(4n, "orders", "x"), row, like("sold"), like("sent")],
      commit(100n, 120n),
    ),
  ).toEqual([
    "begin 100 at 7",
    "4 orders made null x null",
    '5 orders  k p {"a": "b"}',
    "6 orders sold null null null",
    "6 orders sent null null null",
    "commit, then 120",
  ]);
});

describe("the table", () => {
  test("may have more columns, in any order", () => {
    const columns = [{ name: "note", type: 25 }, ...OUTBOX_COLUMNS].reverse();
    const values = [null, Buffer.from("p"), null, Buffer.from("t"), Buffer.from("orders")];
    expect(
      decoded(relation(columns), insert([...values, int64(9n), Buffer.from("a note")])),
    ).toEqual(["9 orders t null p null"]);
  });

  test("without a column of ours, or with another type, is refused by its name", () => {
    expect(reasonOf(relation(OUTBOX_COLUMNS.slice(0, -1)))).toBe("TableChanged");
    const other = OUTBOX_COLUMNS.map((c) => (c.name === "payload" ? { ...c, type: 3802 } : c));
    expect(reasonOf(relation(other))).toBe("TableChanged");
    expect(reasonOf(relation(OUTBOX_COLUMNS, ["public", "users"]))).toBe("PublicationChanged");
  });

  test("described anew in the middle of the stream is read as it is from there on", () => {
    const more = [...OUTBOX_COLUMNS, { name: "note", type: 25 }];
    const longer = Buffer.concat([event(2n, "b"), Buffer.from("n")]);
    longer.writeInt16BE(7, 6);
    expect(decoded(relation(), event(1n, "a"), relation(more), longer)).toEqual([
      "1 a made null null null",
      "2 b made null null null",
    ]);
  });

  test("whose rows are updated or deleted in the publication is refused", () => {
    expect(reasonOf(relation(), Buffer.from("U"))).toBe("PublicationChanged");
    expect(reasonOf(relation(), Buffer.from("D"))).toBe("PublicationChanged");
    expect(reasonOf(relation(), Buffer.from("T"))).toBe("none");
  });
});

test("LSNs are written as PostgreSQL writes them", () => {
  for (const text of ["0/0", "0/16B3748", "A/FFFFFFFF", "FFFFFFFF/1"])
    expect(lsnText(lsnOf(text))).toBe(text);
});
