/** A child process that ends when this one is gone, also by SIGKILL: a shell waits at the other end of a pipe. */
import { type ChildProcess, spawn } from "node:child_process";
import type { Socket } from "node:net";

/** @returns lets go of it, once it has ended and its number may be another's. */
export function killWithUs(child: ChildProcess): () => void {
  const script = 'read -r _; kill -9 "$1"';
  const watcher = spawn("/bin/sh", ["-c", script, "sh", String(child.pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  watcher.unref();
  (watcher.stdin as Socket).unref();
  return () => void watcher.kill("SIGKILL");
}
