/** The trap strikes at its bytes and at no others: before them, or at the answer to them. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { expect, test } from "@jest/globals";
import { FaultProxy } from "../../faults/fault-proxy.ts";
import { Trap } from "./trap.ts";

/** Says everything through a proxy with a trap, to a server that says it back. */
async function heardOf(words: readonly string[], trap: Trap): Promise<string[][]> {
  const taken: string[] = [];
  const server = createServer((socket) => {
    socket.setEncoding("utf8").on("error", () => {});
    socket.on("data", (text: string) => {
      taken.push(text);
      socket.write(text);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const target = (server.address() as AddressInfo).port;
  const proxy = await FaultProxy.listen({ target, ...trap.options });
  const client = connect({ port: proxy.port, host: "127.0.0.1" });
  const back: string[] = [];
  client.setEncoding("utf8").on("error", () => {});
  for (const word of words) {
    const text = await new Promise<string | undefined>((resolve) => {
      client.once("data", resolve).once("close", () => resolve(undefined));
      client.write(word);
    });
    if (text === undefined) break;
    back.push(text);
  }
  client.destroy();
  await proxy.close();
  await new Promise((resolve) => server.close(resolve));
  return [taken, back];
}

test("strikes before the bytes pass: they are never taken", async () => {
  const trap = new Trap();
  const struck = trap.set({ way: "up", bytes: Buffer.from("save") }, 5000, (one) => one.cut());
  expect(await heardOf(["claim 1", "save 2", "save 3"], trap)).toEqual([["claim 1"], ["claim 1"]]);
  expect(await struck).toBe(true);
});

test("strikes at the answer: they are taken, and nobody hears of it", async () => {
  const trap = new Trap();
  const bait = { way: "up", bytes: Buffer.from("save"), atAnswer: true } as const;
  const struck = trap.set(bait, 5000, (one) => one.reset());
  const [taken, back] = await heardOf(["claim 1", "save 2", "save 3"], trap);
  expect([taken, back]).toEqual([["claim 1", "save 2"], ["claim 1"]]);
  expect(await struck).toBe(true);
});

test("who asks with certain bytes is held back from then on, and goes on in order", async () => {
  const trap = new Trap();
  const letGo = trap.hold(Buffer.from("server-1 "));
  let isThrough = false;
  const held = heardOf(["server-1 claim", "save"], trap).finally(() => {
    isThrough = true;
  });
  const others = ["server-2 claim", "save", "save", "save"];
  expect(await heardOf(others, trap)).toEqual([others, others]);
  expect(isThrough).toBe(false);
  letGo();
  const own = ["server-1 claim", "save"];
  expect(await held).toEqual([own, own]);
});

test("what does not come is not struck", async () => {
  const trap = new Trap();
  const struck = trap.set({ way: "up", bytes: Buffer.from("join") }, 50, (one) => one.cut());
  expect(await struck).toBe(false);
  expect(await heardOf(["join"], trap)).toEqual([["join"], ["join"]]);
});
