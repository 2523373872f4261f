/**
 * One operator: stands by until the Lease is its own, then takes the catalog over and makes the Topics of its
 * scopes true, until it is the leader no more.
 *
 * A leader that was frozen and thaws does no harm (DESIGN: Topic): its Lease says so before each deed, its
 * writes to the catalog are fenced by the next leader's, and Kafka topics go by their id.
 */
import type { KubeConfig } from "@kubernetes/client-node";
import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import { STEADY_CLOCK } from "../process/clock.ts";
import { openStatusPage } from "../process/status-page.ts";
import { allowedNames } from "./allowed-names.ts";
import { CatalogGone } from "./catalog-reader.ts";
import { CatalogWriter } from "./catalog-writer.ts";
import type { Config } from "./config.ts";
import { countedLog } from "./counted-log.ts";
import { IndexedMap } from "./indexed-map.ts";
import { failureOf } from "./kube/api-error.ts";
import { Controller } from "./kube/controller.ts";
import { KubeClient } from "./kube/kube-client.ts";
import { KubeLeaseApi } from "./kube/kube-lease-api.ts";
import { KubeResourceApi } from "./kube/kube-resource-api.ts";
import { Lease } from "./kube/lease.ts";
import type { Condition, KubeResource } from "./kube/resource-api.ts";
import { ResourceWatches } from "./kube/resource-watches.ts";
import type { KubeTopic } from "./kube/topic-api.ts";
import { KubeWorkloadApi } from "./kube/workload-api.ts";
import { OperatorMetrics } from "./metrics.ts";
import { OtherDeployments } from "./other-deployments.ts";
import type { KubeOutbox } from "./outbox/kube-outbox.ts";
import { Outboxes } from "./outbox/outboxes.ts";
import { pause } from "./pauses.ts";
import { Reconciler } from "./reconcile.ts";
import { stuck } from "./stuck.ts";
import { kafkaTopicOf } from "./topic-spec.ts";
import { WithoutCatalog } from "./without-catalog.ts";

const LEASE = { leaseMs: 15_000, renewMs: 4000, marginMs: 5000 };
const LEASE_REQUEST_MS = 4000;
const UID_REQUEST_MS = 30_000;
/** So many at once that Kafka always has the next topics to make, and that a single one is among the next. */
const WORK = { concurrency: 40, spare: 8, resyncMs: 10_000, retryMs: 2000 };
/** Between looks at what others wrote, into our catalog or their own. */
const LOOK_MS = 30_000;
/** While the catalog cannot be taken over. */
const LEAD_RETRY_MS = 5000;
const SUPERSEDED = "another operator is the leader; ending, so that nothing is done twice";

export interface RunningOperator {
  /** Resolves, with why, when it cannot lead any more: the process must end. */
  readonly lost: Promise<string>;
  close(): Promise<void>;
}

/** Resolves once it stands by. @throws with the next step. */
export async function startOperator(
  config: Config,
  kube: KubeConfig,
  bareLog: Log,
  logger: Logger,
): Promise<RunningOperator> {
  const world = { clock: STEADY_CLOCK, random: Math.random };
  const metrics = new OperatorMetrics({
    leading: () => catalog !== undefined && lease.mayAct,
    busy: () => controller?.queue.busy ?? 0,
    lateMs: () => controller?.queue.lateMs ?? 0,
    topics: () => countByReady(topics.values()),
    outboxes: () => countByReady(outboxes?.all ?? []),
  });
  const count = (method: string, code: number): void => metrics.apiRequest(method, code);
  const log = countedLog(bareLog, (request, outcome) => metrics.kafkaRequest(request, outcome));
  const onTrouble = (message: string): void => logger.warn(message);
  const closing = new AbortController();
  const lease = new Lease({
    ...{ ...world, ...LEASE, onTrouble, holder: config.identity },
    api: new KubeLeaseApi(
      kube,
      { namespace: config.leaseNamespace, name: config.leaseName },
      LEASE_REQUEST_MS,
      count,
    ),
  });
  const topics = new IndexedMap<KubeTopic>(kafkaTopicOf);
  const asking = {
    ...{ identity: config.identity, count, clock: STEADY_CLOCK },
    onUntold: (name: string, reason: string) => {
      metrics.eventFailed();
      logger.info({ name }, `An Event was not written: ${reason}`);
    },
  };
  const api = new KubeResourceApi<KubeTopic>(kube, { ...asking, kind: "Topic" });
  let controller: Controller | undefined;
  let without: WithoutCatalog | undefined;
  let catalog: CatalogWriter | undefined;
  const ended = Promise.withResolvers<string>();
  const watches = new ResourceWatches({
    ...{ ...world, api, onTrouble, kinds: "Topics", resources: topics },
    namespaces: config.namespaces,
    labelSelector: config.labelSelector,
    changed: (name) => controller?.queue.add(name),
    onBegin: (what) => metrics.watchBegins(what),
  });
  const outboxes =
    config.sequencers &&
    new Outboxes({
      api: new KubeResourceApi<KubeOutbox>(kube, { ...asking, kind: "Outbox" }),
      workloads: new KubeWorkloadApi(kube, count),
      ...{ log, deploymentId: config.deploymentId, settings: config.sequencers, onTrouble },
      ...{ namespaces: config.namespaces, labelSelector: config.labelSelector },
      mayAct: () => lease.mayAct,
      onBegin: (what) => metrics.watchBegins(what),
      onDone: (outcome, tookMs) => metrics.reconciled(outcome, tookMs),
      onFailure: (outbox, message) => logger.warn({ outbox }, message),
    });
  const page =
    config.healthListen &&
    (await openStatusPage(
      {
        stuck: () =>
          stuck({
            work: Math.max(controller?.queue.stuckMs ?? 0, outboxes?.stuckMs ?? 0),
            lease: lease.idleMs,
            watch: Math.max(watches.idleMs, outboxes?.idleMs ?? 0),
          }),
        readiness: () =>
          watches.areListed
            ? { ready: true, why: "ready" }
            : { ready: false, why: "Topics are not listed yet" },
        metricsPage: () => metrics.page(),
      },
      config.healthListen,
    ));
  watches.start();
  outboxes?.start();
  lease.start();
  void lead();
  logger.info({ deploymentId: config.deploymentId, identity: config.identity }, "standing by");
  return {
    lost: Promise.race([lease.lost.then(() => SUPERSEDED), ended.promise]),
    close: async () => {
      closing.abort();
      page?.close();
      await watches.close();
      await outboxes?.close();
      await controller?.queue.close();
      catalog?.close();
      await lease.close();
      await log.close();
    },
  };

  async function lead(): Promise<void> {
    await Promise.all([lease.gained, watches.listed]);
    while (!closing.signal.aborted) {
      try {
        await takeOver();
        return;
      } catch (error) {
        if (closing.signal.aborted) return;
        logger.error(`Cannot lead yet: ${(error as Error).message}`);
        sayWhy(error as Error);
        await pause(STEADY_CLOCK, LEAD_RETRY_MS, closing.signal);
      }
    }
  }

  async function takeOver(): Promise<void> {
    const clusterUid = await clusterUidOf(new KubeClient(kube, UID_REQUEST_MS, count));
    catalog = await CatalogWriter.open(log, config.deploymentId, Date.now, clusterUid);
    const others = new OtherDeployments(log, config.deploymentId);
    // One of them may have taken what was taken here when this deployment's last operator died.
    await others.refresh().catch((error: Error) => onTrouble(error.message));
    const reconciler = new Reconciler(log, catalog, {
      ...{ others, allowed: allowedNames(config.allowedKafkaTopics) },
      outboxMissing: (topic) => outboxes?.missing(topic),
      mayAct: () => lease.mayAct,
    });
    await controller?.queue.close();
    controller = controllerWith(reconciler, clusterUid);
    // Those that are no more have a record only, or the mark of one that was begun.
    const { records, begun } = catalog;
    for (const name of [...topics.keys(), ...records.keys(), ...begun.keys()])
      controller.queue.addAgain(name, 0);
    outboxes?.lead();
    logger.info({ topics: topics.size }, "leading");
    void lookAround(catalog, others);
  }

  /** Who leads and cannot begin says so of each Topic, too. */
  function sayWhy(error: Error): void {
    without?.failedAgain(error);
    if (without) return;
    without = new WithoutCatalog(error);
    controller = controllerWith(without, "");
    for (const name of topics.keys()) controller.queue.addAgain(name, 0);
  }

  function controllerWith(
    reconciler: Pick<Reconciler, "apply" | "delete">,
    clusterUid: string,
  ): Controller {
    return new Controller({
      ...{ ...world, ...WORK, api, reconciler, clusterUid },
      topics,
      isInScope: (namespace) => config.namespaces?.includes(namespace) ?? true,
      mayAct: () => lease.mayAct,
      now: () => new Date().toISOString().replace(/\.\d+Z$/, "Z"),
      onDone: (outcome, tookMs) => metrics.reconciled(outcome, tookMs),
      onFailure: (topic, message) => logger.warn({ topic }, message),
      onSuperseded: () => ended.resolve(SUPERSEDED),
    });
  }

  async function lookAround(catalog: CatalogWriter, others: OtherDeployments): Promise<void> {
    while (!closing.signal.aborted) {
      await pause(STEADY_CLOCK, LOOK_MS, closing.signal);
      for (const look of [() => catalog.reread(), () => others.refresh()]) {
        await look().catch((error: Error) => {
          onTrouble(error.message);
          if (error instanceof CatalogGone)
            ended.resolve(`${error.message}; ending, so that the next start makes it anew`);
        });
      }
    }
  }
}

function countByReady(all: Iterable<KubeResource>): Record<Condition["status"], number> {
  const counts = { True: 0, False: 0, Unknown: 0 };
  for (const { status } of all)
    counts[status?.conditions?.find(({ type }) => type === "Ready")?.status ?? "Unknown"]++;
  return counts;
}

async function clusterUidOf(client: KubeClient): Promise<string> {
  try {
    const path = "/api/v1/namespaces/kube-system";
    return (await client.get<{ metadata: { uid: string } }>(path)).metadata.uid;
  } catch (error) {
    throw new Error(`The cluster's uid cannot be read: ${failureOf(error).reason}`);
  }
}
