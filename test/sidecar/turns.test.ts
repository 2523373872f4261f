/** Who may work when: one at a time, in the order of asking. */
import { expect, test } from "@jest/globals";
import { Turns } from "../../sidecar/dispatch/turns.ts";

test("one per turn, in the order of asking; at once when nobody has had this turn", async () => {
  const begins: (() => void)[] = [];
  const turns = new Turns((begin) => begins.push(begin));
  const had: string[] = [];
  const all = ["a", "b", "c"].map((name) => turns.take().then(() => had.push(name)));
  const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
  await settled();
  expect(had).toEqual(["a"]);
  for (const wanted of ["a b", "a b c", "a b c"]) {
    begins.shift()?.();
    await settled();
    expect(had.join(" ")).toBe(wanted);
  }
  await Promise.all(all);
  expect(begins).toHaveLength(0);
  await turns.take();
});
