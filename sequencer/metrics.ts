/** What a sequencer counts. The names are a documented interface (README): they are changed like the API is. */
import prometheus from "@prometheus-io/client";
import { gaugesIn } from "../process/metrics.ts";
import type { Figures } from "./state.ts";

const STATES = ["starting", "standby", "running", "waiting", "failed", "retired"] as const;

export class SequencerMetrics {
  readonly #registry = new prometheus.Registry();

  constructor(figures: Figures) {
    const { Gauge, Counter, collectDefaultMetrics } = prometheus;
    const registers = [this.#registry];
    const gauge = gaugesIn(this.#registry);
    const counter = (name: string, help: string, value: () => number): void => {
      new Counter({
        ...{ name, help, registers },
        collect() {
          this.reset();
          this.inc(value());
        },
      });
    };
    new Gauge({
      name: "throughline_sequencer_state",
      help: "1 at what the sequencer does now: starting, standby, running, waiting, failed, retired.",
      ...{ labelNames: ["state", "reason"] as const, registers },
      collect() {
        this.reset();
        const { state } = figures;
        const reason = "reason" in state ? state.reason : "";
        for (const one of STATES)
          this.set(
            { state: one, reason: one === state.kind ? reason : "" },
            one === state.kind ? 1 : 0,
          );
      },
    });
    new Gauge({
      name: "throughline_sequencer_sequence",
      help: "Last order value in Kafka.",
      ...{ labelNames: ["topic"] as const, registers },
      collect() {
        for (const [topic, sequence] of figures.sequences) this.set({ topic }, sequence);
      },
    });
    counter(
      "throughline_sequencer_events_total",
      "Events sent by this process.",
      () => figures.events,
    );
    counter(
      "throughline_sequencer_batches_total",
      "Kafka transactions that carried them.",
      () => figures.batches,
    );
    counter(
      "throughline_sequencer_parked_total",
      "Events parked by this process.",
      () => figures.parked,
    );
    new Counter({
      name: "throughline_sequencer_step_seconds_total",
      help: "What batches have taken in each step; stamp and produce run at once, commit after both.",
      ...{ labelNames: ["step"] as const, registers },
      collect() {
        this.reset();
        for (const [step, ms] of Object.entries(figures.stepMs)) this.inc({ step }, ms / 1000);
      },
    });
    gauge(
      "throughline_sequencer_lag_seconds",
      "From the commit of the last event that was sent to when it was in Kafka.",
      () => figures.lagMs / 1000,
    );
    gauge(
      "throughline_sequencer_retained_wal_bytes",
      "What PostgreSQL keeps of its log for the slot.",
      () => figures.retainedWalBytes,
    );
    gauge(
      "throughline_sequencer_retained_wal_limit_bytes",
      "More than this is too much: what waits for a Topic is parked then.",
      () => figures.retainedWalLimitBytes,
    );
    collectDefaultMetrics({ register: this.#registry });
  }

  /** The page that Prometheus scrapes. */
  page(): Promise<string> {
    return this.#registry.metrics();
  }
}
