/** A log in memory, a catalog in it and a reconciler; Topics of the namespace shop. */
import type { MemoryLog } from "../../kafka/memory-log.ts";
import { CatalogWriter } from "../../operator/catalog-writer.ts";
import { Reconciler } from "../../operator/reconcile.ts";
import type { TopicSpec } from "../../operator/topic-schema.ts";
import type { TopicResource } from "../../operator/validate.ts";

export const owner = { uid: "u1", generation: 1, clusterUid: "c1" };

export function topic(spec: TopicSpec, name = "orders"): TopicResource {
  return { metadata: { name, namespace: "shop" }, spec };
}

export function accepting(topic: TopicResource, lost: string): TopicResource {
  const annotations = { "throughline.dev/accept-loss": lost };
  return { ...topic, metadata: { ...topic.metadata, annotations } };
}

/** The first operator, or the next one after one that died: it reads the catalog. */
export async function operatorOn(log: MemoryLog) {
  const catalog = await CatalogWriter.open(log, "test", () => 1);
  return { catalog, reconciler: new Reconciler(log, catalog) };
}

export async function infoIn(log: MemoryLog, name: string) {
  const found = await log.admin.describeTopics([name]);
  return found.kind === "done" ? found.value.get(name) : undefined;
}
