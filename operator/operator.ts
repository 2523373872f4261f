/**
 * One operator: stands by until the Lease is its own, then takes the catalog over and makes the Topics of its
 * scopes true, until it is the leader no more.
 *
 * A leader that was frozen and thaws does no harm (DESIGN: Topic): its Lease says so before each deed, its
 * writes to the catalog are fenced by the next leader's, and Kafka topics go by their id.
 */
import { CoreV1Api, type KubeConfig } from "@kubernetes/client-node";
import type { Logger } from "pino";
import type { Log } from "../kafka/log.ts";
import { STEADY_CLOCK } from "../process/clock.ts";
import { openStatusPage } from "../process/status-page.ts";
import { CatalogWriter } from "./catalog-writer.ts";
import type { Config } from "./config.ts";
import { failureOf } from "./kube/api-error.ts";
import { Controller } from "./kube/controller.ts";
import { KubeLeaseApi } from "./kube/kube-lease-api.ts";
import { KubeTopicApi } from "./kube/kube-topic-api.ts";
import { Lease } from "./kube/lease.ts";
import { TopicWatches } from "./kube/topic-watches.ts";
import { pause } from "./pauses.ts";
import { Reconciler } from "./reconcile.ts";

const LEASE = { leaseMs: 15_000, renewMs: 4000, marginMs: 5000 };
const WORK = { concurrency: 16, resyncMs: 10_000, retryMs: 2000 };
/** While the catalog cannot be taken over. */
const LEAD_RETRY_MS = 5000;
export interface RunningOperator {
  /** Resolves when it is the leader no more: the process must end. */
  readonly lost: Promise<void>;
  close(): Promise<void>;
}

/** Resolves once it stands by. @throws with the next step. */
export async function startOperator(
  config: Config,
  kube: KubeConfig,
  log: Log,
  logger: Logger,
): Promise<RunningOperator> {
  const world = { clock: STEADY_CLOCK, random: Math.random };
  const onTrouble = (message: string): void => logger.warn(message);
  const closing = new AbortController();
  const lease = new Lease({
    ...{ ...world, ...LEASE, onTrouble, holder: config.identity },
    api: new KubeLeaseApi(kube, config.leaseNamespace, config.leaseName),
  });
  const api = new KubeTopicApi(kube);
  let controller: Controller | undefined;
  let catalog: CatalogWriter | undefined;
  const superseded = Promise.withResolvers<void>();
  const watches = new TopicWatches({
    ...{ ...world, api, onTrouble },
    namespaces: config.namespaces,
    labelSelector: config.labelSelector,
    changed: (name) => controller?.queue.add(name),
  });
  const page =
    config.healthListen &&
    (await openStatusPage(
      {
        readiness: () =>
          watches.areListed
            ? { ready: true, why: "ready" }
            : { ready: false, why: "Topics are not listed yet" },
        metricsPage: () => Promise.resolve(metricsOf()),
      },
      config.healthListen,
    ));
  watches.start();
  lease.start();
  void lead();
  logger.info({ deploymentId: config.deploymentId, identity: config.identity }, "standing by");
  return {
    lost: Promise.race([lease.lost, superseded.promise]),
    close: async () => {
      closing.abort();
      page?.close();
      await watches.close();
      await controller?.queue.close();
      await catalog?.close();
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
        await pause(STEADY_CLOCK, LEAD_RETRY_MS, closing.signal);
      }
    }
  }

  async function takeOver(): Promise<void> {
    const clusterUid = await clusterUidOf(kube);
    catalog = await CatalogWriter.open(log, config.deploymentId, Date.now, { clusterUid });
    const reconciler = new Reconciler(log, catalog, allows(config.allowedKafkaTopics));
    controller = new Controller({
      ...{ ...world, ...WORK, api, reconciler, clusterUid },
      topics: watches.topics,
      isInScope: (namespace) => config.namespaces?.includes(namespace) ?? true,
      mayAct: () => lease.mayAct,
      now: () => new Date().toISOString().replace(/\.\d+Z$/, "Z"),
      onFailure: (topic, message) => logger.warn({ topic }, message),
      onSuperseded: superseded.resolve,
    });
    // Those that are no more have a record only.
    for (const name of [...watches.topics.keys(), ...catalog.records.keys()])
      controller.queue.add(name);
    logger.info({ topics: watches.topics.size }, "leading");
  }

  function metricsOf(): string {
    const figures: Record<string, number> = {
      throughline_operator_leading: controller && lease.mayAct ? 1 : 0,
      throughline_operator_topics: watches.topics.size,
      throughline_operator_work: controller?.queue.busy ?? 0,
      throughline_operator_work_late_seconds: (controller?.queue.lateMs ?? 0) / 1000,
    };
    const lines = Object.entries(figures).map(
      ([name, value]) => `# TYPE ${name} gauge\n${name} ${value}\n`,
    );
    return lines.join("");
  }
}

async function clusterUidOf(kube: KubeConfig): Promise<string> {
  try {
    const found = await kube.makeApiClient(CoreV1Api).readNamespace({ name: "kube-system" });
    return found.metadata?.uid ?? "";
  } catch (error) {
    throw new Error(`The cluster's uid cannot be read: ${failureOf(error).reason}`);
  }
}

function allows(patterns: readonly string[]): (kafkaTopic: string) => boolean {
  return (kafkaTopic) =>
    patterns.some((pattern) =>
      pattern.endsWith("*") ? kafkaTopic.startsWith(pattern.slice(0, -1)) : kafkaTopic === pattern,
    );
}
