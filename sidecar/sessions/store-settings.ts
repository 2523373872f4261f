/** Settings of Redis or Valkey that would lose sessions, each said with its remedy. */
import type { Answer, Command, Reply } from "./redis-link.ts";

type AskAll = (
  command: Command,
) => Promise<readonly { readonly node: string; readonly answer: Answer }[]>;

const SETTINGS = ["maxmemory-policy", "appendonly", "save"] as const;

export async function findings(askAll: AskAll): Promise<readonly string[]> {
  const perSetting = await Promise.all(SETTINGS.map((name) => askAll(["CONFIG", "GET", name])));
  const nodes = new Map<string, Map<string, Answer>>();
  for (const [i, answers] of perSetting.entries()) {
    for (const { node, answer } of answers) {
      const known = nodes.get(node) ?? new Map<string, Answer>();
      nodes.set(node, known.set(SETTINGS[i] as string, answer));
    }
  }
  return Array.from(nodes, ([node, answers]) => nodeFindings(node, answers)).flat();
}

function nodeFindings(node: string, answers: ReadonlyMap<string, Answer>): string[] {
  const failed = [...answers.values()].find(({ kind }) => kind !== "reply");
  if (failed) {
    const why =
      failed.kind === "error" ? failed.message : failed.kind === "unavailable" && failed.reason;
    return [
      `The settings of the session store ${node} could not be checked (${why}). See that it has ` +
        "maxmemory-policy noeviction and appendonly yes.",
    ];
  }
  const value = (name: (typeof SETTINGS)[number]): string => {
    const answer = answers.get(name);
    const [, text] = (answer?.kind === "reply" ? answer.reply : []) as readonly Reply[];
    return String(text ?? "");
  };
  const found: string[] = [];
  const policy = value("maxmemory-policy");
  if (policy !== "noeviction") {
    found.push(
      `The session store ${node} may evict sessions when it is full (maxmemory-policy ${policy}): set ` +
        "maxmemory-policy noeviction.",
    );
  }
  if (value("appendonly") !== "yes" && value("save") === "") {
    found.push(
      `The session store ${node} keeps nothing over a restart (appendonly no, save empty): set appendonly yes.`,
    );
  }
  return found;
}
