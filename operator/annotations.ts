/** The annotations of a Topic or an Outbox: what a person says beside its spec. */

const PREFIX = "throughline.dev/";
/** "true" stops all changes to a Topic's Kafka topic, or an Outbox's Deployment; deleting a paused Topic keeps it. */
export const PAUSE = `${PREFIX}pause`;
/** Names the id of a Kafka topic whose data is lost and need not come back. */
export const ACCEPT_LOSS = `${PREFIX}accept-loss`;
/** Names the id of an adopted Kafka topic that is to go with its Topic; the second step after the policy. */
export const DELETE_ADOPTED = `${PREFIX}delete-adopted`;
/** "true" lets a Topic go whose Kafka topic cannot be deleted now; the Kafka topic stays. */
export const ABANDON = `${PREFIX}abandon-kafka-topic`;

/** "true" lets an Outbox go whose replication slot cannot be dropped now; the slot stays where it is. */
export const ABANDON_SLOT = `${PREFIX}abandon-slot`;

const SWITCHES: readonly string[] = [PAUSE, ABANDON, ABANDON_SLOT];
const OF_TOPICS = [PAUSE, ABANDON, ACCEPT_LOSS, DELETE_ADOPTED];

interface Annotated {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
}

export function annotationOf({ metadata }: Annotated, name: string): string | undefined {
  return metadata.annotations?.[name];
}

export function isOn(
  of: Annotated,
  name: typeof PAUSE | typeof ABANDON | typeof ABANDON_SLOT,
): boolean {
  return annotationOf(of, name) === "true";
}

/**
 * What of our own name nobody here understands, as a sentence with what to do. What has such an annotation is
 * left alone: who misspelt the pause meant it.
 */
export function misunderstood({ metadata }: Annotated, all = OF_TOPICS): string | undefined {
  for (const [name, value] of Object.entries(metadata.annotations ?? {})) {
    if (!name.startsWith(PREFIX)) continue;
    if (!all.includes(name))
      return `The annotation ${name} is not known; remove it, or use ${all.join(", ")}.`;
    if (SWITCHES.includes(name) && value !== "true" && value !== "false")
      return `The annotation ${name} is "${value}"; set it to "true" or "false", in quotes.`;
  }
  return undefined;
}
