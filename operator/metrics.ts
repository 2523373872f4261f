/** What an operator counts. The names are a documented interface (README): they are changed like the API is. */
import prometheus from "@prometheus-io/client";
import { gaugesIn } from "../process/metrics.ts";

/** What is looked up when Prometheus asks. */
export interface OperatorFigures {
  leading(): boolean;
  /** Work that is due or in flight. */
  busy(): number;
  lateMs(): number;
  /** Topics by the status of their Ready condition; those without one are Unknown. */
  topics(): Readonly<Record<"True" | "False" | "Unknown", number>>;
  /** The same of Outboxes. */
  outboxes(): Readonly<Record<"True" | "False" | "Unknown", number>>;
}

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export class OperatorMetrics {
  readonly #registry = new prometheus.Registry();
  readonly #reconciles: InstanceType<typeof prometheus.Histogram<"outcome">>;
  readonly #watches: InstanceType<typeof prometheus.Counter<"what">>;
  readonly #apiRequests: InstanceType<typeof prometheus.Counter<"method" | "code">>;
  readonly #kafkaRequests: InstanceType<typeof prometheus.Counter<"request" | "outcome">>;
  readonly #untold: InstanceType<typeof prometheus.Counter>;

  constructor(figures: OperatorFigures) {
    const { Counter, Gauge, Histogram, collectDefaultMetrics } = prometheus;
    const registers = [this.#registry];
    const gauge = gaugesIn(this.#registry);
    gauge(
      "throughline_operator_leading",
      "1 on the operator that acts, 0 on one that stands by.",
      () => (figures.leading() ? 1 : 0),
    );
    gauge(
      "throughline_operator_work",
      "Topics that are due to be reconciled or are being so.",
      figures.busy,
    );
    gauge(
      "throughline_operator_work_late_seconds",
      "For how long the Topic that waits longest has been due.",
      () => figures.lateMs() / 1000,
    );
    const byReady = (name: string, help: string, counts: OperatorFigures["topics"]): void => {
      new Gauge({
        ...{ name, help, labelNames: ["ready"] as const, registers },
        collect() {
          for (const [ready, count] of Object.entries(counts())) this.set({ ready }, count);
        },
      });
    };
    byReady(
      "throughline_operator_topics",
      "Topics of this operator by the status of their Ready condition.",
      figures.topics,
    );
    byReady(
      "throughline_operator_outboxes",
      "Outboxes of this operator by the status of their Ready condition.",
      figures.outboxes,
    );
    this.#reconciles = new Histogram({
      name: "throughline_operator_reconcile_seconds",
      help: "Reconciles by how they ended: ready, not-ready, deleted, deletion-waits, left-alone, failed.",
      ...{ labelNames: ["outcome"] as const, buckets: SECONDS, registers },
    });
    this.#watches = new Counter({
      name: "throughline_operator_watch_begins_total",
      help: "Lists and watches of Topics that were begun; all but the first of each are restarts.",
      ...{ labelNames: ["what"] as const, registers },
    });
    this.#apiRequests = new Counter({
      name: "throughline_operator_api_requests_total",
      help: "Requests to the API server by HTTP method and status; 0 is no answer. Watches are not here.",
      ...{ labelNames: ["method", "code"] as const, registers },
    });
    this.#kafkaRequests = new Counter({
      name: "throughline_operator_kafka_requests_total",
      help: "Steps asked of Kafka's admin by how they ended: done, refused, unauthorised, unavailable.",
      ...{ labelNames: ["request", "outcome"] as const, registers },
    });
    this.#untold = new Counter({
      name: "throughline_operator_events_failed_total",
      help: "Kubernetes Events that could not be written.",
      registers,
    });
    collectDefaultMetrics({ register: this.#registry });
  }

  reconciled(outcome: string, tookMs: number): void {
    this.#reconciles.observe({ outcome }, tookMs / 1000);
  }

  watchBegins(what: string): void {
    this.#watches.inc({ what });
  }

  apiRequest(method: string, code: number): void {
    this.#apiRequests.inc({ method, code: String(code) });
  }

  kafkaRequest(request: string, outcome: string): void {
    this.#kafkaRequests.inc({ request, outcome });
  }

  eventFailed(): void {
    this.#untold.inc();
  }

  /** The page that Prometheus scrapes. */
  page(): Promise<string> {
    return this.#registry.metrics();
  }
}
