/** Injectors as processes, and what stands before them as a Service does. */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connect as connectTls } from "node:tls";
import { programOf } from "../shipped.ts";
import { until, Waits } from "../story/waits.ts";

type Figures = Record<"untouched" | "injected" | "refused", number>;

export interface Injector {
  readonly port: number;
  ready(): Promise<void>;
  /** Pods by outcome. */
  figures(): Promise<Figures>;
  /** Resolves when a line of its log is so. */
  says(line: RegExp): Promise<void>;
  /** The fingerprint of the certificate that a new connection sees. @throws when `ca` does not vouch for it. */
  shown(ca: string): Promise<string>;
  /** SIGTERM. @returns its exit code. */
  end(): Promise<number | null>;
  /** SIGKILL. */
  kill(): Promise<void>;
}

export async function startInjector(
  kubeconfig: string,
  flags: readonly string[],
): Promise<Injector> {
  const folder = mkdtempSync(join(tmpdir(), "throughline-injector-"));
  const file = join(folder, "kubeconfig");
  writeFileSync(file, kubeconfig, { mode: 0o600 });
  const child = spawn(
    process.execPath,
    [
      ...[programOf("injector"), "--kubeconfig", file, "--sidecar-image", "throughline:1"],
      ...["--kafka", "kafka.kafka:9092", "--deployment-id", "prod"],
      ...["--listen", "127.0.0.1:0", "--health-listen", "127.0.0.1:0"],
      // Ready after a twentieth of it.
      ...["--certificate-names", "127.0.0.1", "--certificate-validity", "60s", ...flags],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const lines: string[] = [];
  const waits = new Waits();
  let code: number | null | undefined;
  const ended = (): Error | undefined =>
    code === undefined ? undefined : new Error(`it ended with code ${code}:\n${lines.join("\n")}`);
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    waits.changed();
  });
  child.once("exit", (status) => {
    code = status;
    rmSync(folder, { recursive: true, force: true });
    waits.changed();
  });
  const listening = (): string | undefined => lines.find((line) => line.includes('"listening"'));
  await waits.until(() => listening() !== undefined, ended);
  const { port, healthPort } = JSON.parse(listening() as string);
  const end = async (signal: NodeJS.Signals): Promise<number | null> => {
    if (code === undefined) child.kill(signal);
    await waits.until(() => code !== undefined);
    return code as number | null;
  };
  return {
    port,
    ready: () =>
      until(async () => {
        const failure = ended();
        if (failure) throw failure;
        return (await fetch(`http://127.0.0.1:${healthPort}/readyz`)).status === 200;
      }),
    figures: async () => {
      const page = await (await fetch(`http://127.0.0.1:${healthPort}/metrics`)).text();
      const counts = page.matchAll(/throughline_injector_pods_total\{outcome="(\w+)"\} (\d+)/g);
      return Object.fromEntries(
        [...counts].map(([, outcome, count]) => [outcome, Number(count)]),
      ) as Figures;
    },
    says: (line) => waits.until(() => lines.some((one) => line.test(JSON.parse(one).msg)), ended),
    shown: (ca) =>
      new Promise((resolve, reject) => {
        const socket = connectTls({ host: "127.0.0.1", port, ca }, () => {
          resolve(socket.getPeerCertificate().fingerprint256);
          socket.destroy();
        });
        socket.once("error", reject);
      }),
    end: () => end("SIGTERM"),
    kill: async () => {
      await end("SIGKILL");
    },
  };
}

/** Each new connection goes to the next of its ports; those that are there stay. */
export interface Balancer {
  readonly port: number;
  add(port: number): void;
  remove(port: number): void;
  close(): Promise<void>;
}

export async function openBalancer(): Promise<Balancer> {
  const ports: number[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((from) => {
    const port = ports.shift();
    if (port === undefined) return from.destroy();
    ports.push(port);
    const to = connect(port, "127.0.0.1");
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      sockets.add(one);
      one.once("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.on("error", () => {});
      one.pipe(other);
    }
    return undefined;
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    add: (port) => ports.push(port),
    remove: (port) => {
      if (ports.includes(port)) ports.splice(ports.indexOf(port), 1);
    },
    close: () =>
      new Promise((resolve) => {
        for (const one of sockets) one.destroy();
        server.close(() => resolve());
      }),
  };
}
