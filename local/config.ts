/** What the local mode reads from its environment; the only file here that does. */
import { homedir } from "node:os";
import { join } from "node:path";

export const environment = {
  /** A running Kafka to use instead of the embedded one: host:port, comma-separated. */
  kafkaBrokers: process.env["KAFKA_BROKERS"]?.split(",").filter(Boolean),
  mavenRepository: (
    process.env["MAVEN_REPOSITORY"] ?? "https://repo.maven.apache.org/maven2"
  ).replace(/\/+$/, ""),
  javaHome: process.env["JAVA_HOME"],
  cache: join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "throughline"),
};
