/**
 * Which Kafka topics a Topic may have (pure). Names of its own namespace, `<namespace>.…`, are its own; any other,
 * and every topic that is there already, needs the operator's allow-list.
 *
 * An entry is `[<namespace>/]<Kafka topic>`; a trailing * makes the name a prefix. Without a namespace it is
 * for all.
 */

export const ALLOWED_ENTRY = /^([a-z0-9-]{1,63}\/)?([a-zA-Z0-9._-]+\*?|\*)$/;

export interface AllowedNames {
  /** Outside the namespace's own. */
  mayName(namespace: string, kafkaTopic: string): boolean;
  /** One that exists, wherever. */
  mayAdopt(namespace: string, kafkaTopic: string): boolean;
  /** What a person is told who wants one that exists; empty where there is no way. */
  readonly toAdopt: string;
}

export const NOTHING_ALLOWED: AllowedNames = {
  ...{ mayName: () => false, mayAdopt: () => false, toAdopt: "" },
};

export function allowedNames(entries: readonly string[]): AllowedNames {
  const isListed = (namespace: string, kafkaTopic: string): boolean =>
    entries.some((entry) => {
      const [pattern = "", whose] = entry.split("/").reverse();
      if (whose !== undefined && whose !== namespace) return false;
      return pattern.endsWith("*")
        ? kafkaTopic.startsWith(pattern.slice(0, -1))
        : kafkaTopic === pattern;
    });
  const toAdopt = "To adopt it, name it in the operator's --allowed-kafka-topics.";
  return { mayName: isListed, mayAdopt: isListed, toAdopt };
}
