/** A child process that cannot know of it ends with ours, also when ours is killed: a shell waits at a pipe of ours. */
import { spawn } from "node:child_process";
import type { Socket } from "node:net";

/** @returns lets go of it, once it has ended and its number may be another's. */
export function endWithUs(pid: number): () => void {
  const script = 'read -r _; kill -9 "$1"';
  const watcher = spawn("/bin/sh", ["-c", script, "sh", String(pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
  });
  watcher.unref();
  (watcher.stdin as Socket).unref();
  return () => void watcher.kill("SIGKILL");
}
