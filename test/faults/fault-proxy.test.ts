/** The proxy does what the stories ask of it: each fault is what it says, and no other. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "@jest/globals";
import { FaultProxy } from "./fault-proxy.ts";

/** Says everything back, and keeps its side of each connection. */
let echo: Server;
let accepted: Socket[];
let proxy: FaultProxy;

beforeEach(async () => {
  accepted = [];
  echo = createServer({ allowHalfOpen: true }, (socket) => {
    accepted.push(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes) => socket.write(bytes));
    socket.on("end", () => socket.end());
  });
  await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
  proxy = await FaultProxy.listen({ target: (echo.address() as AddressInfo).port });
});

afterEach(async () => {
  await proxy.close();
  for (const socket of accepted) socket.destroy();
  await new Promise((resolve) => echo.close(resolve));
});

/** A client that remembers what it heard. */
async function dial() {
  const socket = connect({ port: proxy.port, host: "127.0.0.1", allowHalfOpen: true });
  let heard = "";
  let look = (): void => {};
  let ended: string | undefined;
  socket.setEncoding("utf8").on("data", (text: string) => {
    heard += text;
    look();
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    ended ??= error.code ?? "error";
    look();
  });
  socket.on("end", () => {
    ended ??= "end";
    look();
  });
  await once(socket, "connect");
  const until = (holds: () => boolean): Promise<void> =>
    new Promise((resolve) => {
      look = () => holds() && resolve();
      look();
    });
  return {
    socket,
    heard: () => heard,
    ended: () => ended,
    hears: (text: string) => until(() => heard === text),
    ends: () => until(() => ended !== undefined),
  };
}

/** Both ways work: what was sent before has had its time to come, too. */
async function roundTrip(text: string): Promise<void> {
  const other = await dial();
  other.socket.write(text);
  await other.hears(text);
  other.socket.destroy();
}

test("without a fault everything passes, and so does the end of each direction", async () => {
  const client = await dial();
  client.socket.end("hello");
  await client.hears("hello");
  await client.ends();
  expect(client.ended()).toBe("end");
});

test("frozen: no byte passes, the connection stays, and nothing is lost when it thaws", async () => {
  const client = await dial();
  client.socket.write("a");
  await client.hears("a");
  const [frozen] = proxy.connections;
  frozen?.fault({ kind: "freeze" });
  client.socket.write("b");
  await roundTrip("others go on");
  expect([client.heard(), client.ended()]).toEqual(["a", undefined]);
  frozen?.fault({ kind: "none" });
  await client.hears("ab");
});

test("frozen: the end of a connection is not told", async () => {
  const client = await dial();
  client.socket.write("a");
  await client.hears("a");
  const [frozen] = proxy.connections;
  frozen?.fault({ kind: "freeze" });
  client.socket.end();
  await roundTrip("others go on");
  expect(accepted[0]?.readableEnded).toBe(false);
  frozen?.fault({ kind: "none" });
  await client.ends();
  expect(client.ended()).toBe("end");
});

test("a fault of the proxy holds for connections to come", async () => {
  proxy.fault({ kind: "freeze" });
  const client = await dial();
  client.socket.write("a");
  const second = await dial();
  while (proxy.connections.size < 2) await new Promise(setImmediate);
  [...proxy.connections][1]?.fault({ kind: "none" });
  second.socket.write("b");
  await second.hears("b");
  second.socket.destroy();
  expect(client.heard()).toBe("");
  proxy.heal();
  await client.hears("a");
});

test("half-open: what the server says is lost, what the client says arrives, healing resets", async () => {
  const client = await dial();
  client.socket.write("a");
  await client.hears("a");
  proxy.fault({ kind: "lose", way: "down" });
  const arrived = once(accepted[0] as Socket, "data");
  client.socket.write("b");
  expect(String((await arrived)[0])).toBe("b");
  expect([client.heard(), client.ended()]).toEqual(["a", undefined]);
  // The echo is lost once the proxy has read it.
  while (![...proxy.connections][0]?.lost) await new Promise(setImmediate);
  expect([client.heard(), client.ended()]).toEqual(["a", undefined]);
  proxy.heal();
  await client.ends();
  expect([client.heard(), client.ended()]).toEqual(["a", "ECONNRESET"]);
});

test("cut: both sides see the connection end", async () => {
  const client = await dial();
  client.socket.write("a");
  await client.hears("a");
  const closed = once(accepted[0] as Socket, "end");
  proxy.cut();
  await client.ends();
  await closed;
  expect(client.ended()).toBe("end");
});

test("reset: both sides see a TCP reset", async () => {
  const client = await dial();
  client.socket.write("a");
  await client.hears("a");
  const failed = new Promise<string | undefined>((resolve) => {
    accepted[0]?.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
  });
  proxy.reset();
  await client.ends();
  expect([client.ended(), await failed]).toEqual(["ECONNRESET", "ECONNRESET"]);
});

test("slow: bytes are late by the delay, in order, and a throttle lets few pass", async () => {
  const client = await dial();
  proxy.fault({ kind: "slow", delayMs: 60 });
  const begun = performance.now();
  client.socket.write("a");
  await client.hears("a");
  // Both ways are late; a timer may fire a millisecond early.
  expect(performance.now() - begun).toBeGreaterThanOrEqual(118);
  proxy.fault({ kind: "slow", bytesPerSecond: 100_000 });
  const long = "x".repeat(10_000);
  const again = performance.now();
  client.socket.write(long);
  await client.hears(`a${long}`);
  expect(performance.now() - again).toBeGreaterThanOrEqual(80);
});

test("a target that is not there resets the client", async () => {
  await new Promise((resolve) => echo.close(resolve));
  const client = await dial();
  await client.ends();
  expect(client.ended()).toBe("ECONNRESET");
});
