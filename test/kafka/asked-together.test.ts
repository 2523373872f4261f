/** A herd's questions: few requests, and no answer older than its question. */
import { expect, test } from "@jest/globals";
import { AskedTogether } from "../../kafka/asked-together.ts";

function bed() {
  const sent: { key: string; answer: (value: number) => void; fail: (why: Error) => void }[] = [];
  const questions = new AskedTogether<number>();
  const ask = (key: string): Promise<number> =>
    questions.ask(key, () => new Promise((answer, fail) => sent.push({ key, answer, fail })));
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
  return { sent, ask, settled };
}

test("who asks while a request is under way shares the next one, sent when that is answered", async () => {
  const { sent, ask, settled } = bed();
  const first = ask("a");
  const later = Array.from({ length: 1000 }, () => ask("a"));
  await settled();
  expect(sent).toHaveLength(1);
  sent[0]?.answer(1);
  expect(await first).toBe(1);
  await settled();
  expect(sent).toHaveLength(2);
  const last = ask("a");
  sent[1]?.answer(2);
  expect(new Set(await Promise.all(later))).toEqual(new Set([2]));
  await settled();
  sent[2]?.answer(3);
  expect(await last).toBe(3);
  expect(sent).toHaveLength(3);
});

test("keys do not wait for each other, and a failure ends only its own request", async () => {
  const { sent, ask, settled } = bed();
  const failing = ask("a");
  const after = ask("a");
  const other = ask("b");
  expect(sent.map(({ key }) => key)).toEqual(["a", "b"]);
  sent[0]?.fail(new Error("lost"));
  await expect(failing).rejects.toThrow("lost");
  await settled();
  sent[1]?.answer(7);
  sent[2]?.answer(8);
  expect(await Promise.all([after, other])).toEqual([8, 7]);
});
