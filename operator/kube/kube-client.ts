/**
 * Requests to an API server: JSON over connections that are kept, reached as the kubeconfig says, each with a time
 * limit and counted. The Kubernetes client's own API classes load a model of every kind there is, which is
 * a third of what the operator weighs.
 */
import { request as httpRequest, type IncomingMessage } from "node:http";
import { Agent, request as httpsRequest, type RequestOptions } from "node:https";
import { text } from "node:stream/consumers";
import type { KubeConfig } from "@kubernetes/client-node";

/** @param code HTTP status; 0 when there was no answer. */
export type CountRequest = (method: string, code: number) => void;
export type Query = Readonly<Record<string, string | number | boolean | undefined>>;
type Method = "GET" | "POST" | "PUT" | "PATCH";

/** Who changes a field is named in `managedFields` by this, up to the slash. */
const USER_AGENT = "throughline-operator/1";

/** The API server answered, and not with what was asked for. */
class KubeRefusal extends Error {
  /** HTTP status. */
  readonly code: number;
  readonly body: string;

  constructor(code: number, body: string) {
    super(`HTTP status ${code}`);
    this.code = code;
    this.body = body;
  }
}

export class KubeClient {
  readonly #config: KubeConfig;
  readonly #timeoutMs: number;
  readonly #count: CountRequest;
  /** A handshake costs more than a request. */
  readonly #connections = new Agent({ keepAlive: true });

  /**
   * @param timeoutMs for each request, from its begin to the end of its answer: without a limit a half-open
   *   connection would hold it, and the work behind it, for ever. Not for watches.
   */
  constructor(config: KubeConfig, timeoutMs: number, count: CountRequest = () => {}) {
    this.#config = config;
    this.#timeoutMs = timeoutMs;
    this.#count = count;
  }

  /** @throws with `code` and `body` of a refusal, or what the way there said. */
  get<T>(path: string, query: Query = {}): Promise<T> {
    return this.#ask("GET", path, { query });
  }

  /** A PATCH is a merge patch, or with an array a JSON patch. @throws as `get`. */
  send<T>(method: Exclude<Method, "GET">, path: string, body: object): Promise<T> {
    return this.#ask(method, path, { body });
  }

  /** By server-side apply: what `owner` had set before and is not in the body goes. @throws as `get`. */
  apply<T>(path: string, body: object, owner: string): Promise<T> {
    return this.#ask("PATCH", path, {
      body,
      query: { fieldManager: owner, force: true },
      patch: "apply",
    });
  }

  /**
   * Resolves when the server ends it in order.
   * @param silenceMs without a byte for so long the connection is taken for dead.
   * @throws as `get`, also when `signal` aborts.
   */
  async watch<T>(
    path: string,
    query: Query,
    { onEvent, silenceMs, signal }: WatchOptions<T>,
  ): Promise<void> {
    const options = { query: { ...query, watch: true }, signal, timeout: silenceMs };
    const response = await this.#open("GET", path, options);
    const { statusCode = 0 } = response;
    if (statusCode !== 200) throw new KubeRefusal(statusCode, await text(response));
    response.setEncoding("utf8");
    let rest = "";
    for await (const some of response) {
      const lines = `${rest}${some}`.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) onEvent(JSON.parse(line) as T);
    }
  }

  async #ask<T>(method: Method, path: string, asked: Asked): Promise<T> {
    let code = 0;
    const signal = AbortSignal.timeout(this.#timeoutMs);
    try {
      const response = await this.#open(method, path, { ...asked, signal });
      const { statusCode = 0 } = response;
      const answer = await text(response);
      code = statusCode;
      if (code < 200 || code > 299) throw new KubeRefusal(code, answer);
      return JSON.parse(answer) as T;
    } catch (error) {
      throw signal.aborted && code === 0
        ? new Error(`no answer within ${this.#timeoutMs} ms`)
        : error;
    } finally {
      this.#count(method, code);
    }
  }

  async #open(
    method: Method,
    path: string,
    { query = {}, body, patch, ...more }: Pick<RequestOptions, "signal" | "timeout"> & Asked,
  ): Promise<IncomingMessage> {
    const cluster = this.#config.getCurrentCluster();
    const url = new URL(`${cluster?.server}${path}`);
    for (const [key, value] of Object.entries(query))
      if (value !== undefined) url.searchParams.set(key, String(value));
    const options: RequestOptions & { headers: Record<string, string> } = {
      ...{ ...more, method },
      headers: { accept: "application/json", "user-agent": USER_AGENT },
    };
    if (body) {
      options.headers["content-type"] =
        method === "PATCH"
          ? PATCH_TYPES[patch ?? (Array.isArray(body) ? "json" : "merge")]
          : "application/json";
    }
    // Certificates and token of now.
    await this.#config.applyToHTTPSOptions(options);
    const isSecure = url.protocol === "https:";
    // A proxy has connections of its own.
    if (isSecure && !cluster?.proxyUrl) options.agent = this.#connections;
    return new Promise((resolve, reject) => {
      const asked = (isSecure ? httpsRequest : httpRequest)(url, options, resolve);
      asked.once("timeout", () => asked.destroy(new Error("no sign of life")));
      // Of the addresses that a name has, each failed: the first says why.
      asked.on("error", (error) =>
        reject(error instanceof AggregateError ? error.errors[0] : error),
      );
      asked.end(body && JSON.stringify(body));
    });
  }
}

interface Asked {
  readonly query?: Query;
  readonly body?: object;
  readonly patch?: keyof typeof PATCH_TYPES;
}

const PATCH_TYPES = {
  merge: "application/merge-patch+json",
  json: "application/json-patch+json",
  // JSON is YAML.
  apply: "application/apply-patch+yaml",
};

interface WatchOptions<T> {
  readonly onEvent: (event: T) => void;
  readonly silenceMs: number;
  readonly signal: AbortSignal;
}

/** As the API has times with microseconds (MicroTime): of exactly six digits. */
export function microTime(at: Date): string {
  return at.toISOString().replace("Z", "000Z");
}
