/** What a person may try on a Throughline that has just started here (pure), on a Topic that is there. */
import type { LocalTopic } from "./throughline.ts";

interface Place {
  /** That the servers speak for. */
  readonly namespace: string;
  /** Of a server. */
  readonly address: string;
  /** Where a Topic file is put. */
  readonly topicsDirectory: string;
}

export type Tried = Pick<LocalTopic, "ready" | "outbox">;

/** @param topics by `<namespace>/<name>`. @returns lines for a terminal. */
export function firstSteps(topics: ReadonlyMap<string, Tried>, place: Place): string[] {
  const { namespace, address, topicsDirectory } = place;
  const ours = [...topics].flatMap(([fullName, { ready, outbox }]) => {
    const [of, name = ""] = fullName.split("/");
    return ready && of === namespace ? [{ name, outbox }] : [];
  });
  const [topic] = [...ours.filter(({ outbox }) => outbox === undefined), ...ours];
  const name = topic?.name ?? "orders";
  const steps: [what: string, command: string][] = [];
  const grpcurl = (data: string, method: string): string =>
    `grpcurl -plaintext -d ${data} ${address} throughline.v1.ThroughlineService/${method}`;
  if (!topic) {
    const kind = { apiVersion: "throughline.dev/v1alpha1", kind: "Topic" };
    const document = JSON.stringify({ ...kind, metadata: { name, namespace }, spec: {} });
    steps.push(["to make a Topic", `echo '${document}' > '${topicsDirectory}/${name}.yaml'`]);
  }
  if (topic?.outbox === undefined) {
    // "hello".
    const event = { topic: name, events: [{ key: "first", payload: "aGVsbG8=" }] };
    steps.push(["to publish", grpcurl(`'${JSON.stringify(event)}'`, "Publish")]);
  }
  const open = { topic: name, start: { earliest: {} }, credit: { events: "10" } };
  // grpcurl ends the stream with its input, and the server ends it then: cat keeps the input open.
  const input = `{ echo '${JSON.stringify({ open })}'; cat; }`;
  steps.push(["to read on until Ctrl-C", `${input} | ${grpcurl("@", "Subscribe")}`]);
  const what = steps.map(([what]) => what).join(", ");
  return [`Try ${what}:`, ...steps.map(([, command]) => `  ${command}`)];
}
