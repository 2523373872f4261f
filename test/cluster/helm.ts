/** Helm as a process, with a home of its own, and this checkout's chart. */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { ensureHelm } from "./binaries.ts";

export const CHART = join(import.meta.dirname, "../../charts/throughline");

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Helm {
  run(...args: readonly string[]): Promise<Ran>;
  /** @returns standard output. @throws with what it said. */
  done(...args: readonly string[]): Promise<string>;
}

/** @param folder has its home. @param kubeconfig none: it reaches no cluster. */
export async function helmIn(folder: string, kubeconfig?: string): Promise<Helm> {
  const program = await ensureHelm(console.log);
  const config = join(folder, "helm-kubeconfig");
  writeFileSync(config, kubeconfig ?? "", { mode: 0o600 });
  const homes = ["CACHE", "CONFIG", "DATA"].map((kind) => [`HELM_${kind}_HOME`, folder]);
  const env = { ...process.env, ...Object.fromEntries(homes), KUBECONFIG: config };
  const run = (...args: readonly string[]): Promise<Ran> =>
    new Promise((resolve) => {
      execFile(program, args, { env, maxBuffer: 1 << 26 }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
      );
    });
  const done = async (...args: readonly string[]): Promise<string> => {
    const { code, stdout, stderr } = await run(...args);
    if (code !== 0) throw new Error(`helm ${args.join(" ")}\n${stderr}`);
    return stdout;
  };
  return { run, done };
}
