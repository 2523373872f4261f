/** The Kafka that test files have in common; their side of it is kafka-part.ts. */
import { type EmbeddedKafka, startKafka } from "../local/embedded-kafka.ts";
import { endWithUs } from "../local/end-with-us.ts";

/** The variable that tells test files its address. */
export const ALL_FILES_KAFKA = "THROUGHLINE_TEST_KAFKA";

export async function startKafkaOfAllFiles(
  directory: string,
): Promise<Pick<EmbeddedKafka, "brokers" | "java" | "stop">> {
  // More than one, so that a count that is not passed on is seen.
  const settings = { "num.partitions": "3" };
  const { brokers, java, pid, stop } = await startKafka({ directory, settings });
  // Whoever waits for Jest hears no signal: one that ends it is as if it were killed.
  const letGo = endWithUs(pid(1));
  const end = async (): Promise<void> => {
    await stop("SIGKILL");
    letGo();
  };
  return { brokers, java, stop: end };
}
