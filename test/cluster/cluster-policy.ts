/**
 * A policy of a Kafka cluster for its topics, as its owners write one (KIP-108, KIP-133). A broker takes it only as a Java
 * class, and a Java runtime has no compiler, so it is here as this compiles to with `javac --release 17 -g:none`:
 *
 *   public class ClusterPolicy implements CreateTopicPolicy, AlterConfigPolicy {
 *     public void configure(Map<String, ?> settings) {}
 *     public void close() {}
 *     public void validate(CreateTopicPolicy.RequestMetadata made) {
 *       if (made.topic().endsWith(".policed")) throw new PolicyViolationException("No such name here.");
 *     }
 *     public void validate(AlterConfigPolicy.RequestMetadata changed) {
 *       if (changed.configs().containsKey("segment.ms")) throw new PolicyViolationException("segment.ms is ours.");
 *     }
 *   }
 */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const NAME = "ClusterPolicy";
const CLASS = [
  "yv66vgAAAD0APgoAAgADBwAEDAAFAAYBABBqYXZhL2xhbmcvT2JqZWN0AQAGPGluaXQ+AQADKClWCgAIAAkHAAoMAAsADAEAQG9y",
  "Zy9hcGFjaGUva2Fma2Evc2VydmVyL3BvbGljeS9DcmVhdGVUb3BpY1BvbGljeSRSZXF1ZXN0TWV0YWRhdGEBAAV0b3BpYwEAFCgp",
  "TGphdmEvbGFuZy9TdHJpbmc7CAAOAQAILnBvbGljZWQKABAAEQcAEgwAEwAUAQAQamF2YS9sYW5nL1N0cmluZwEACGVuZHNXaXRo",
  "AQAVKExqYXZhL2xhbmcvU3RyaW5nOylaBwAWAQA3b3JnL2FwYWNoZS9rYWZrYS9jb21tb24vZXJyb3JzL1BvbGljeVZpb2xhdGlv",
  "bkV4Y2VwdGlvbggAGAEAEk5vIHN1Y2ggbmFtZSBoZXJlLgoAFQAaDAAFABsBABUoTGphdmEvbGFuZy9TdHJpbmc7KVYKAB0AHgcA",
  "HwwAIAAhAQBAb3JnL2FwYWNoZS9rYWZrYS9zZXJ2ZXIvcG9saWN5L0FsdGVyQ29uZmlnUG9saWN5JFJlcXVlc3RNZXRhZGF0YQEA",
  "B2NvbmZpZ3MBABEoKUxqYXZhL3V0aWwvTWFwOwgAIwEACnNlZ21lbnQubXMLACUAJgcAJwwAKAApAQANamF2YS91dGlsL01hcAEA",
  "C2NvbnRhaW5zS2V5AQAVKExqYXZhL2xhbmcvT2JqZWN0OylaCAArAQATc2VnbWVudC5tcyBpcyBvdXJzLgcALQEADUNsdXN0ZXJQ",
  "b2xpY3kHAC8BADBvcmcvYXBhY2hlL2thZmthL3NlcnZlci9wb2xpY3kvQ3JlYXRlVG9waWNQb2xpY3kHADEBADBvcmcvYXBhY2hl",
  "L2thZmthL3NlcnZlci9wb2xpY3kvQWx0ZXJDb25maWdQb2xpY3kBAARDb2RlAQAJY29uZmlndXJlAQASKExqYXZhL3V0aWwvTWFw",
  "OylWAQAJU2lnbmF0dXJlAQAnKExqYXZhL3V0aWwvTWFwPExqYXZhL2xhbmcvU3RyaW5nOyo+OylWAQAFY2xvc2UBAAh2YWxpZGF0",
  "ZQEARShMb3JnL2FwYWNoZS9rYWZrYS9zZXJ2ZXIvcG9saWN5L0NyZWF0ZVRvcGljUG9saWN5JFJlcXVlc3RNZXRhZGF0YTspVgEA",
  "DVN0YWNrTWFwVGFibGUBAEUoTG9yZy9hcGFjaGUva2Fma2Evc2VydmVyL3BvbGljeS9BbHRlckNvbmZpZ1BvbGljeSRSZXF1ZXN0",
  "TWV0YWRhdGE7KVYBAAxJbm5lckNsYXNzZXMBAA9SZXF1ZXN0TWV0YWRhdGEAIQAsAAIAAgAuADAAAAAFAAEABQAGAAEAMgAAABEA",
  "AQABAAAABSq3AAGxAAAAAAABADMANAACADIAAAANAAAAAgAAAAGxAAAAAAA1AAAAAgA2AAEANwAGAAEAMgAAAA0AAAABAAAAAbEA",
  "AAAAAAEAOAA5AAEAMgAAACwAAwACAAAAFyu2AAcSDbYAD5kADbsAFVkSF7cAGb+xAAAAAQA6AAAAAwABFgABADgAOwABADIAAAAu",
  "AAMAAgAAABkrtgAcEiK5ACQCAJkADbsAFVkSKrcAGb+xAAAAAQA6AAAAAwABGAABADwAAAASAAIACAAuAD0ACQAdADAAPQAJ",
].join("");

/** Settings of a broker that has it. */
export const CLUSTER_POLICY = {
  "create.topic.policy.class.name": NAME,
  "alter.config.policy.class.name": NAME,
};

/** @returns a new folder with the class; whoever asked removes it. */
export function clusterPolicyClasses(): string {
  const folder = mkdtempSync(join(tmpdir(), "throughline-classes-"));
  writeFileSync(join(folder, `${NAME}.class`), Buffer.from(CLASS, "base64"));
  return folder;
}
