/** What `npm start` says to try: it works with the Topics that are there, whatever they are. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "@jest/globals";
import { firstSteps, type Tried } from "../../local/first-steps.ts";
import { readTopicDocuments } from "../../local/topic-documents.ts";
import { TopicValidator } from "../../operator/validate.ts";

const PLACE = { namespace: "demo", address: "127.0.0.1:7070", topicsDirectory: "/topics" };
const open = { ready: true, outbox: undefined };
const fed = { ready: true, outbox: "travel" };

/** What they ask of which method, for which Topic. */
function asked(topics: Record<string, Tried>): [string, string][] {
  return firstSteps(new Map(Object.entries(topics)), PLACE)
    .slice(1)
    .filter((line) => line.includes("grpcurl"))
    .map((line) => {
      const json = /'(\{.*\})'/.exec(line)?.[1] ?? "";
      const { topic, open } = JSON.parse(json) as { topic?: string; open?: { topic: string } };
      expect(line).toContain(" 127.0.0.1:7070 ");
      return [/\w+$/.exec(line)?.[0] ?? "", topic ?? open?.topic ?? ""];
    });
}

test("they name the first Topic of the servers' namespace that is Ready", () => {
  const topics = {
    ...{ "shop/orders": open, "demo/lost": { ...open, ready: false } },
    ...{ "demo/notes": open, "demo/tides": open },
  };
  expect(asked(topics)).toEqual([
    ["Publish", "notes"],
    ["Subscribe", "notes"],
  ]);
});

test("to one that an Outbox feeds nobody else publishes: another goes before it, and alone it is only read", () => {
  expect(asked({ "demo/bookings": fed, "demo/notes": open })).toEqual([
    ["Publish", "notes"],
    ["Subscribe", "notes"],
  ]);
  expect(asked({ "demo/bookings": fed })).toEqual([["Subscribe", "bookings"]]);
});

test("without one the first line makes it, in a file that is valid, and the others name it", () => {
  const topicsDirectory = mkdtempSync(join(tmpdir(), "it has spaces "));
  try {
    const [what, make = ""] = firstSteps(new Map(), { ...PLACE, topicsDirectory });
    expect(what).toBe("Try to make a Topic, to publish, to read on until Ctrl-C:");
    execFileSync("sh", ["-c", make]);
    const [made] = readTopicDocuments(topicsDirectory).documents;
    expect(made?.name).toBe("demo/orders");
    expect(new TopicValidator().validate(made?.value)).toHaveProperty("topic");
  } finally {
    rmSync(topicsDirectory, { recursive: true });
  }
  expect(asked({ "demo/lost": { ...open, ready: false } })).toEqual([
    ["Publish", "orders"],
    ["Subscribe", "orders"],
  ]);
});
