/**
 * HTTPS for the API server's questions: POST /inject with an AdmissionReview. What it asks and is answered is
 * admission.ts; the certificate comes from outside and may change while it runs.
 */
import type { IncomingMessage } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Clock } from "../../process/clock.ts";
import type { Address } from "../../process/settings.ts";
import type { Certificate } from "./certificate.ts";

export interface Answer {
  readonly code: number;
  readonly body: string;
}

export interface WebhookServer {
  readonly port: number;
  /** Of connections that come from now on; before the first one none succeeds. */
  serve(certificate: Certificate): void;
  /** Answers for a while yet, telling each caller to connect anew, then ends. */
  close(): Promise<void>;
}

const PATH = "/inject";
/** An API server takes objects of up to 3 MiB (its own limit of a request). */
const MAX_BODY_BYTES = 4 << 20;
const TIMES = {
  headersTimeout: 5000,
  requestTimeout: 10_000,
  handshakeTimeout: 5000,
  connectionsCheckingInterval: 1000,
  // Go's clients close idle connections after 90 s: who closes first must be they, or a question is lost.
  keepAliveTimeout: 120_000,
};
const MAX_CONNECTIONS = 1000;
/** The last answer says so: connections come to replicas that began later, and see the certificate of now. */
const MAX_QUESTIONS_OF_CONNECTION = 100;
/** Until a Service has sent its new connections elsewhere. */
const LINGER_MS = 5000;

/** @throws when the address cannot be had. */
export async function openWebhookServer(
  listen: Address,
  clock: Clock,
  answer: (body: string) => Answer,
): Promise<WebhookServer> {
  let isClosing = false;
  const server = createServer(TIMES, async (request, response) => {
    if (isClosing) response.shouldKeepAlive = false;
    try {
      const { code, body } = await answered(request);
      // What is left of a refused body is not worth reading.
      if (!request.complete) response.shouldKeepAlive = false;
      const type = code === 200 ? "application/json" : "text/plain; charset=utf-8";
      response.writeHead(code, { "content-type": type }).end(body);
    } catch {
      // The caller has left in the middle of its question.
      response.destroy();
    }
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.maxRequestsPerSocket = MAX_QUESTIONS_OF_CONNECTION;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(listen.port, listen.host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    serve: ({ cert, key }) => server.setSecureContext({ cert, key }),
    close: async () => {
      isClosing = true;
      await new Promise<void>((resolve) => clock.setTimer(LINGER_MS, resolve));
      const ended = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const cancel = clock.setTimer(TIMES.requestTimeout, () => server.closeAllConnections());
      await ended;
      cancel();
    },
  };

  async function answered(request: IncomingMessage): Promise<Answer> {
    if (request.url?.split("?")[0] !== PATH) return { code: 404, body: `See ${PATH}.` };
    if (request.method !== "POST")
      return { code: 405, body: `POST an AdmissionReview to ${PATH}.` };
    const body = await bodyOf(request);
    return body === undefined
      ? { code: 413, body: `A request may have ${MAX_BODY_BYTES} bytes.` }
      : answer(body);
  }
}

/** Undefined: it is too large. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request.iterator({ destroyOnReturn: false })) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
