/** How every program of Throughline is told of Kafka. */
import type { CertificatePair } from "./certificates.ts";
import type { SettingReader } from "./settings.ts";

export type SaslMechanism = "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512";

export interface KafkaConfig {
  readonly brokers: readonly string[];
  readonly tls: (Partial<CertificatePair> & { readonly ca?: Buffer }) | undefined;
  readonly sasl:
    | { readonly mechanism: SaslMechanism; readonly username: string; readonly password: string }
    | undefined;
}

export const KAFKA_SETTINGS = {
  kafka: { value: "host:port,…", help: "Kafka brokers" },
  "kafka-tls": {
    value: "true|false",
    help: "TLS to Kafka; on with any other --kafka-tls-…",
    default: "false",
  },
  "kafka-tls-ca-file": {
    value: "file",
    help: "authorities that may sign the brokers' certificates",
  },
  "kafka-tls-cert-file": { value: "file", help: "this server's certificate for Kafka" },
  "kafka-tls-key-file": { value: "file", help: "its key" },
  "kafka-sasl-mechanism": {
    value: "name",
    help: "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    default: "SCRAM-SHA-512",
  },
  "kafka-sasl-user": { value: "name", help: "turns SASL on" },
  "kafka-sasl-password-file": { value: "file", help: "its password" },
} as const;

type Name = keyof typeof KAFKA_SETTINGS;

export const SASL_MECHANISMS: readonly SaslMechanism[] = [
  "PLAIN",
  "SCRAM-SHA-256",
  "SCRAM-SHA-512",
];

export function kafkaConfig(read: SettingReader<Name>): KafkaConfig {
  const brokers = read.list(read.required("kafka"));
  for (const broker of brokers) read.address("kafka", broker, 1);
  return { brokers, tls: tlsOf(read), sasl: saslOf(read) };
}

function tlsOf(read: SettingReader<Name>): KafkaConfig["tls"] {
  const wanted = read.isTrue("kafka-tls");
  const ca = read.file("kafka-tls-ca-file");
  const pair = read.certificate("kafka-tls-cert-file", "kafka-tls-key-file");
  return wanted || ca || pair ? { ...(ca && { ca }), ...pair } : undefined;
}

function saslOf(read: SettingReader<Name>): KafkaConfig["sasl"] {
  const mechanism = read.oneOf("kafka-sasl-mechanism", SASL_MECHANISMS);
  if (!read.together(["kafka-sasl-user", "kafka-sasl-password-file"])) return undefined;
  const password = read.secret("kafka-sasl-password-file");
  if (password === undefined) return undefined;
  return { mechanism, username: read.text("kafka-sasl-user") as string, password };
}
