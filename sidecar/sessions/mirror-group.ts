/**
 * The Kafka group that shows a session: `_throughline.<deploymentId>.<namespace>.<topic>.<session>`. Pure.
 *
 * The namespace is the caller's; the topic is named as that caller may name it in a request: `<name>` in the
 * caller's own namespace, else `<namespace>/<name>`. Sessions of one name that callers of two namespaces
 * have on one Topic are two, and so are their groups. Each of the three is percent-encoded: every byte of its
 * UTF-8 but A-Z, a-z, 0-9, "-", "_" and "~" becomes "%" and two upper-case hex digits. Dots and slashes too,
 * so that a dot always divides and no two sessions share a group.
 */
import type { SessionKey } from "./session-store.ts";

export function mirrorGroup({ deploymentId, caller, topic, session }: SessionKey): string {
  const own = `${caller}/`;
  const named = topic.startsWith(own) ? topic.slice(own.length) : topic;
  return ["_throughline", deploymentId, ...[caller, named, session].map(encoded)].join(".");
}

function encoded(text: string): string {
  let out = "";
  for (const byte of Buffer.from(text)) {
    const char = String.fromCharCode(byte);
    out += /[A-Za-z0-9\-_~]/.test(char)
      ? char
      : `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return out;
}
