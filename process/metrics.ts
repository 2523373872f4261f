/** What operators and sequencers look up when Prometheus asks. */
import prometheus from "@prometheus-io/client";

type Gauges = (name: string, help: string, value: () => number) => void;

/** Makes gauges of a registry, each with what it is at that time. */
export function gaugesIn(registry: InstanceType<typeof prometheus.Registry>): Gauges {
  return (name, help, value) => {
    new prometheus.Gauge({
      ...{ name, help, registers: [registry] },
      collect() {
        this.set(value());
      },
    });
  };
}
