/** The webhook's HTTPS: paths, sizes, a certificate that changes, and an end that loses no question. */
import { Agent, request } from "node:https";
import { connect } from "node:tls";
import { afterEach, expect, test } from "@jest/globals";
import { type Certificate, makeCertificate } from "../../../operator/inject/certificate.ts";
import { openWebhookServer, type WebhookServer } from "../../../operator/inject/webhook-server.ts";
import { Random } from "../../sim/random.ts";
import { VirtualClock } from "../../sim/virtual-clock.ts";

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

async function bed(answer = (body: string) => ({ code: 200, body })) {
  const clock = new VirtualClock(new Random(1));
  const server = await openWebhookServer({ host: "127.0.0.1", port: 0 }, clock, answer);
  const agent = new Agent({ keepAlive: true });
  const close = async (): Promise<void> => {
    agent.destroy();
    const ended = server.close();
    await clock.run(clock.now() + 60_000);
    await ended;
  };
  closing.push(close);
  return { clock, server, agent };
}

const certificate = (): Promise<Certificate> =>
  makeCertificate(["127.0.0.1"], 3_600_000, Date.now());

function ask(
  { port }: WebhookServer,
  agent: Agent,
  ca: string,
  body: string,
  { path = "/inject", method = "POST" } = {},
): Promise<{ code: number | undefined; body: string; connection: string | undefined }> {
  return new Promise((resolve, reject) => {
    const asked = request({ host: "127.0.0.1", port, path, method, agent, ca }, (response) => {
      let text = "";
      response.on("data", (bytes: Buffer) => {
        text += bytes;
      });
      response.once("end", () => {
        const { connection } = response.headers;
        resolve({ code: response.statusCode, body: text, connection });
      });
    });
    asked.once("error", reject);
    asked.end(body);
  });
}

/** Of the certificate that a new connection is shown. */
function shown({ port }: WebhookServer, ca: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, ca }, () => {
      resolve(socket.getPeerCertificate().fingerprint256);
      socket.destroy();
    });
    socket.once("error", reject);
  });
}

test("a question is answered where it belongs; elsewhere it is said where that is", async () => {
  const { server, agent } = await bed();
  const made = await certificate();
  server.serve(made);
  expect(await ask(server, agent, made.ca, "hello")).toMatchObject({ code: 200, body: "hello" });
  expect(await ask(server, agent, made.ca, "", { path: "/" })).toMatchObject({
    ...{ code: 404, body: "See /inject." },
  });
  expect(await ask(server, agent, made.ca, "", { method: "GET" })).toMatchObject({ code: 405 });
});

test("before there is a certificate no connection succeeds", async () => {
  const { server } = await bed();
  await expect(shown(server, (await certificate()).ca)).rejects.toThrow();
});

test("what is too large is refused with the limit, and the next question is answered", async () => {
  const { server, agent } = await bed();
  const made = await certificate();
  server.serve(made);
  const large = ask(server, agent, made.ca, "x".repeat(5 << 20));
  expect(await large).toMatchObject({ code: 413, body: "A request may have 4194304 bytes." });
  expect(await ask(server, agent, made.ca, "hello")).toMatchObject({ code: 200 });
});

test("another certificate is shown to new connections; those that are there go on", async () => {
  const { server, agent } = await bed();
  const [one, two] = [await certificate(), await certificate()];
  server.serve(one);
  await ask(server, agent, one.ca, "1");
  const before = await shown(server, one.ca);
  server.serve(two);
  expect(await shown(server, two.ca)).not.toBe(before);
  await expect(shown(server, one.ca)).rejects.toThrow();
  // Over the connection of the first question: a new one would not be trusted.
  expect(await ask(server, agent, one.ca, "2")).toMatchObject({ code: 200, body: "2" });
});

test("while it ends it answers, and sends callers to others", async () => {
  const { server, agent, clock } = await bed();
  const made = await certificate();
  server.serve(made);
  expect((await ask(server, agent, made.ca, "1")).connection).toBe("keep-alive");
  const ended = server.close();
  expect(await ask(server, agent, made.ca, "2")).toMatchObject({ code: 200, connection: "close" });
  await clock.run(60_000);
  await ended;
  await expect(ask(server, agent, made.ca, "3")).rejects.toThrow(/ECONNREFUSED/);
});

test("a caller that leaves in the middle of its question harms nobody", async () => {
  const { server, agent } = await bed();
  const made = await certificate();
  server.serve(made);
  await new Promise<void>((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: server.port, ca: made.ca }, () => {
      socket.write("POST /inject HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf", () => {
        socket.destroy();
        resolve();
      });
    });
  });
  expect(await ask(server, agent, made.ca, "hello")).toMatchObject({ code: 200, body: "hello" });
});
