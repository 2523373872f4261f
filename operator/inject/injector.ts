/**
 * One injector, put together: the certificate's keeper, the webhook, the page for probes and metrics. Several may
 * run at once; they share the Secret and nothing else.
 */
import type { KubeConfig } from "@kubernetes/client-node";
import type { Logger } from "pino";
import { STEADY_CLOCK } from "../../process/clock.ts";
import { openStatusPage } from "../../process/status-page.ts";
import { answerTo, podRequestOf } from "./admission.ts";
import { makeCertificate } from "./certificate.ts";
import { CertificateKeeper } from "./certificate-keeper.ts";
import { KubeCertificateStore } from "./certificate-store.ts";
import type { Config } from "./config.ts";
import { type Injection, inject } from "./injection.ts";
import { type Answer, openWebhookServer } from "./webhook-server.ts";

export interface RunningInjector {
  readonly port: number;
  readonly healthPort: number | undefined;
  /** Unready at once; answers for a while yet. */
  close(): Promise<void>;
}

/** Resolves once it listens; it is ready when its certificate is trusted. @throws with the next step. */
export async function startInjector(
  config: Config,
  kube: KubeConfig,
  logger: Logger,
): Promise<RunningInjector> {
  const { names, validityMs } = config.certificate;
  const pods: Record<Injection["kind"], number> = { untouched: 0, injected: 0, refused: 0 };
  let certificateFailures = 0;
  let isClosing = false;
  const webhook = await openWebhookServer(config.listen, STEADY_CLOCK, answer);
  const keeper = new CertificateKeeper({
    store: new KubeCertificateStore(kube, config.secret, config.webhookConfiguration),
    make: (nowMs) => makeCertificate(names, validityMs, nowMs),
    ...{ names, validityMs, clock: STEADY_CLOCK, wallMs: Date.now, random: Math.random },
    serve: (certificate) => {
      webhook.serve(certificate);
      logger.info("serving with the certificate of the Secret");
    },
    onNews: (message) => logger.info(message),
    onTrouble: (message) => {
      certificateFailures++;
      logger.warn(message);
    },
  });
  const page =
    config.healthListen &&
    (await openStatusPage(
      {
        readiness: () => {
          if (isClosing) return { ready: false, why: "stopping" };
          return keeper.isTrusted
            ? { ready: true, why: "ready" }
            : { ready: false, why: "the API server cannot trust the certificate yet; see the log" };
        },
        metricsPage: () => Promise.resolve(metrics()),
      },
      config.healthListen,
    ));
  keeper.start();
  return {
    ...{ port: webhook.port, healthPort: page?.port },
    close: async () => {
      isClosing = true;
      await Promise.all([webhook.close(), keeper.close()]);
      page?.close();
    },
  };

  function answer(body: string): Answer {
    const request = podRequestOf(body);
    if (typeof request === "string") return { code: 400, body: request };
    const { pod, namespace, name } = request;
    try {
      const injection: Injection = pod
        ? inject(pod, namespace, config.injection)
        : { kind: "untouched" };
      pods[injection.kind]++;
      if (injection.kind === "refused")
        logger.info({ namespace, pod: name, reasons: injection.reasons }, "a pod was refused");
      else logger.debug({ namespace, pod: name }, injection.kind);
      return { code: 200, body: answerTo(request, injection) };
    } catch (error) {
      // Other pods are not to suffer from this one.
      logger.error(
        { err: error, namespace, pod: name },
        "this is a bug of Throughline; please report it",
      );
      return { code: 500, body: `This pod cannot be judged: ${(error as Error).message}` };
    }
  }

  function metrics(): string {
    const counts = Object.entries(pods).map(
      ([outcome, count]) => `throughline_injector_pods_total{outcome="${outcome}"} ${count}`,
    );
    return [
      "# TYPE throughline_injector_pods_total counter",
      ...counts,
      "# TYPE throughline_injector_certificate_failures_total counter",
      `throughline_injector_certificate_failures_total ${certificateFailures}`,
      "# TYPE throughline_injector_certificate_expiry_timestamp_seconds gauge",
      `throughline_injector_certificate_expiry_timestamp_seconds ${keeper.expiresMs / 1000}`,
      "",
    ].join("\n");
  }
}
