/** The operator's metrics page: what is counted, and by which names. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { MemoryLog } from "../../kafka/memory-log.ts";
import { countedLog } from "../../operator/counted-log.ts";
import { OperatorMetrics } from "../../operator/metrics.ts";
import { ROOT } from "../source-files.ts";

function metrics(): OperatorMetrics {
  return new OperatorMetrics({
    ...{ leading: () => true, busy: () => 3, lateMs: () => 1500 },
    topics: () => ({ True: 5, False: 2, Unknown: 0 }),
    outboxes: () => ({ True: 1, False: 0, Unknown: 0 }),
  });
}

test("what happens is on the page", async () => {
  const counted = metrics();
  counted.reconciled("ready", 20);
  counted.watchBegins("list");
  counted.apiRequest("PATCH", 409);
  counted.eventFailed();
  const log = countedLog(new MemoryLog(), (request, outcome) =>
    counted.kafkaRequest(request, outcome),
  );
  const wanted = { name: "t", partitions: 1, replicas: 1, settings: {} };
  await log.admin.createTopic(wanted);
  await log.admin.createTopic(wanted);
  // The log itself is the same, with what it keeps to itself.
  const found = await log.admin.describeTopics(["t"]);
  const topic = found.kind === "done" ? found.value.get("t") : undefined;
  expect(topic && (await log.offset(topic, 0, "latest"))).toMatchObject({ offset: 0 });
  const page = await counted.page();
  for (const line of [
    "throughline_operator_leading 1",
    "throughline_operator_work 3",
    "throughline_operator_work_late_seconds 1.5",
    'throughline_operator_topics{ready="False"} 2',
    'throughline_operator_outboxes{ready="True"} 1',
    'throughline_operator_reconcile_seconds_bucket{le="0.025",outcome="ready"} 1',
    'throughline_operator_watch_begins_total{what="list"} 1',
    'throughline_operator_api_requests_total{method="PATCH",code="409"} 1',
    'throughline_operator_kafka_requests_total{request="createTopic",outcome="done"} 1',
    'throughline_operator_kafka_requests_total{request="createTopic",outcome="refused"} 1',
    "throughline_operator_events_failed_total 1",
  ])
    expect(page.split("\n")).toContain(line);
});

test("every metric is in the README", async () => {
  const names = (await metrics().page()).match(/(?<=# TYPE )throughline_operator_\w+/g) ?? [];
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  expect(names.length).toBeGreaterThan(7);
  expect(names.filter((name) => !readme.includes(`\`${name}\``))).toEqual([]);
});
