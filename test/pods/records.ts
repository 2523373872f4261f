/** The office where the apps in pods book what they take: outside of all pods, so that it knows in which order. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import type { Seen } from "../../local/demo-audit.ts";
import { Waits } from "../story/waits.ts";

export interface Entry {
  readonly pod: string;
  /** Events, a notice of the client's by its name, or what the app itself says. */
  readonly kind: string;
  readonly events?: readonly Seen[];
}

export class Records {
  /** With when they were booked, RFC 3339. */
  readonly entries: (Entry & { readonly at: string })[] = [];
  readonly #waits = new Waits();
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => {
      let text = "";
      request.setEncoding("utf8").on("data", (some: string) => {
        text += some;
      });
      request.once("end", () => {
        this.entries.push({ at: new Date().toISOString(), ...(JSON.parse(text) as Entry) });
        response.end();
        this.#waits.changed();
      });
    });
  }

  static async open(host: string): Promise<Records> {
    const records = new Records();
    await new Promise<void>((resolve) => records.#server.listen(0, host, resolve));
    return records;
  }

  get url(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}/`;
  }

  /** Of these pods, in the order in which they were booked. */
  events(...pods: readonly string[]): Seen[] {
    return this.entries.flatMap(({ pod, events = [] }) => (pods.includes(pod) ? events : []));
  }

  kinds(pod: string): string[] {
    return this.entries.filter((entry) => entry.pod === pod).map(({ kind }) => kind);
  }

  until(holds: () => boolean): Promise<void> {
    return this.#waits.until(holds);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}
