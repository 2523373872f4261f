/** Plain HTTP for probes and Prometheus: /livez, /readyz, /metrics. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface Readiness {
  readonly ready: boolean;
  /** For people: why not, or "ready". */
  readonly why: string;
}

export interface StatusSource {
  /** Why only a new process helps; by default nothing says so. */
  stuck?(): string | undefined;
  readiness(): Readiness;
  metricsPage(): Promise<string>;
}

export interface StatusPage {
  readonly port: number;
  close(): void;
}

/** @throws when the address cannot be had. */
export async function openStatusPage(
  source: StatusSource,
  listen: { readonly host: string; readonly port: number },
): Promise<StatusPage> {
  const http = createServer(async (request, response) => {
    const say = (code: number, text: string): void => {
      response.writeHead(code, { "content-type": "text/plain; charset=utf-8" }).end(`${text}\n`);
    };
    switch (request.url?.split("?")[0]) {
      case "/livez": {
        const why = source.stuck?.();
        return say(why === undefined ? 200 : 503, why ?? "alive");
      }
      case "/readyz": {
        const { ready, why } = source.readiness();
        return say(ready ? 200 : 503, why);
      }
      case "/metrics":
        try {
          const page = await source.metricsPage();
          response.writeHead(200, { "content-type": "text/plain; version=0.0.4; charset=utf-8" });
          response.end(page);
        } catch (error) {
          say(500, `metrics cannot be made: ${(error as Error).message}`);
        }
        return;
      default:
        return say(404, "See /livez, /readyz and /metrics.");
    }
  });
  await new Promise<void>((resolve, reject) => {
    http.once("error", reject);
    http.listen(listen.port, listen.host, resolve);
  });
  return {
    port: (http.address() as AddressInfo).port,
    close: () => {
      http.close();
      http.closeAllConnections();
    },
  };
}
