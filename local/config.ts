/** What the local mode reads from its environment; the only file here that does. */
import { homedir } from "node:os";
import { join } from "node:path";

export const environment = {
  /** A running Kafka to use instead of the embedded one: host:port, comma-separated. @throws */
  kafkaBrokers: (): readonly string[] | undefined => brokersIn(process.env["KAFKA_BROKERS"]),
  mavenRepository: (
    process.env["MAVEN_REPOSITORY"] ?? "https://repo.maven.apache.org/maven2"
  ).replace(/\/+$/, ""),
  /** A running Redis or Valkey to use instead of the embedded one. */
  redisUrl: process.env["REDIS_URL"] || undefined,
  /** As npm itself has it. */
  npmRegistry: (process.env["npm_config_registry"] ?? "https://registry.npmjs.org").replace(
    /\/+$/,
    "",
  ),
  /** A running PostgreSQL to use instead of the embedded one; its user owns the database and may replicate. @throws */
  postgresUrl: (): string | undefined => postgresIn(process.env["POSTGRES_URL"]),
  javaHome: process.env["JAVA_HOME"],
  cache: join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "throughline"),
};

function brokersIn(text: string | undefined): readonly string[] | undefined {
  const brokers = (text ?? "")
    .split(",")
    .map((broker) => broker.trim())
    .filter(Boolean);
  for (const broker of brokers) {
    const port = Number(
      /^[^\s:/]+:(\d{1,5})$|^\[[0-9a-fA-F:]+\]:(\d{1,5})$/.exec(broker)?.slice(1).join(""),
    );
    if (!(port >= 1 && port <= 65_535)) {
      throw new Error(
        `KAFKA_BROKERS has "${broker}"; each must be host:port, with commas between.`,
      );
    }
  }
  return brokers.length > 0 ? brokers : undefined;
}

function postgresIn(text: string | undefined): string | undefined {
  if (!text) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isWhole =
    url &&
    ["postgres:", "postgresql:"].includes(url.protocol) &&
    ![url.hostname, url.username, url.pathname.slice(1)].includes("");
  // Not with its text: it may have a password.
  if (!isWhole) throw new Error("POSTGRES_URL is not postgres://user:password@host:port/database.");
  return text;
}
