/** Settings of an embedded broker: a small machine, and clean-up that tests can see. */

/** Warnings and worse, to the broker's own log file. */
export const LOG4J = `status=error
appender.c.type=Console
appender.c.name=C
appender.c.layout.type=PatternLayout
appender.c.layout.pattern=[%d{HH:mm:ss.SSS}] %p %m (%c{1})%n
rootLogger.level=WARN
rootLogger.appenderRef.c.ref=C
`;

export function brokerProperties(broker: {
  readonly node: number;
  readonly host: string;
  readonly listeners: readonly number[];
  readonly controllers: readonly number[];
  readonly directory: string;
  /** One more listener, for clients that sign in or want TLS. */
  readonly secured?:
    | {
        readonly protocol: string;
        readonly ports: readonly number[];
        /** What clients are told instead, by node: what stands before each. */
        readonly advertisedPorts?: readonly number[] | undefined;
      }
    | undefined;
  readonly settings: Readonly<Record<string, string>>;
}): string {
  const { node, host, listeners, controllers, directory, secured, settings } = broker;
  const port = listeners[node - 1];
  const replicas = String(listeners.length);
  const inSync = listeners.length >= 3 ? "2" : "1";
  const voters = controllers.map((controller, i) => `${i + 1}@127.0.0.1:${controller}`).join(",");
  const open = `PLAINTEXT://${host}:${port}`;
  const clients = secured ? `${open},SECURED://127.0.0.1:${secured.ports[node - 1]}` : open;
  const told = (secured?.advertisedPorts ?? secured?.ports)?.[node - 1];
  const advertised = secured ? `${open},SECURED://127.0.0.1:${told}` : open;
  const protocols = secured ? `,SECURED:${secured.protocol}` : "";
  const properties: Record<string, string> = {
    "process.roles": "broker,controller",
    "node.id": String(node),
    "controller.quorum.voters": voters,
    listeners: `${clients},CONTROLLER://127.0.0.1:${controllers[node - 1]}`,
    "advertised.listeners": advertised,
    "listener.security.protocol.map": `PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT${protocols}`,
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "log.dirs": `${directory}/data`,
    "offsets.topic.replication.factor": replicas,
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    "share.coordinator.state.topic.replication.factor": replicas,
    "share.coordinator.state.topic.min.isr": inSync,
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
    "share.coordinator.state.topic.num.partitions": "5",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "6000",
    "broker.heartbeat.interval.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.threads": "1",
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "500",
    "log.segment.delete.delay.ms": "1000",
    ...settings,
  };
  return `${Object.entries(properties)
    .map(([key, value]) => `${key}=${value}`)
    .join("\n")}\n`;
}
