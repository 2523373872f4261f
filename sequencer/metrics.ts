/** What a sequencer counts. The names are a documented interface (README): they are changed like the API is. */
import prometheus from "@prometheus-io/client";
import type { Figures } from "./state.ts";

const STATES = ["starting", "standby", "running", "waiting", "failed"] as const;

export class SequencerMetrics {
  readonly #registry = new prometheus.Registry();

  constructor(figures: Figures) {
    const { Gauge, Counter, collectDefaultMetrics } = prometheus;
    const registers = [this.#registry];
    const gauge = (name: string, help: string, value: () => number): void => {
      new Gauge({
        ...{ name, help, registers },
        collect() {
          this.set(value());
        },
      });
    };
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
      help: "1 at what the sequencer does now: starting, standby, running, waiting, failed.",
      ...{ labelNames: ["state", "reason"] as const, registers },
      collect() {
        this.reset();
        const { state } = figures;
        const reason = state.kind === "failed" ? state.reason : "";
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
    collectDefaultMetrics({ register: this.#registry });
  }

  /** The page that Prometheus scrapes. */
  page(): Promise<string> {
    return this.#registry.metrics();
  }
}
