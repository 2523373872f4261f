/** Who has which partition of a shared session: balanced, sticky, the same for everybody. */
import { expect, test } from "@jest/globals";
import { assign } from "../../sidecar/sessions/assignment.ts";
import { Random } from "../sim/random.ts";

function counts(targets: readonly string[], members: readonly string[]): number[] {
  return members.map((id) => targets.filter((target) => target === id).length);
}

test.each([
  [["a"], ["", "", ""], ["a", "a", "a"]],
  [
    ["a", "b"],
    ["a", "a", "a"],
    ["a", "a", "b"],
  ],
  [
    ["a", "b"],
    ["b", "b", "b", "b"],
    ["b", "b", "a", "a"],
  ],
  [["b"], ["a", "b", "a"], ["b", "b", "b"]],
  [
    ["a", "b", "c"],
    ["a", "b"],
    ["a", "b"],
  ],
  [
    ["a", "b", "c"],
    ["c", "gone"],
    ["c", "a"],
  ],
  [["a"], [], []],
] as const)("members %j of %j: %j", (members, current, wanted) => {
  expect(assign(members, current)).toEqual(wanted);
});

test("on random cases: all assigned, balanced, no move without need, and again the same", () => {
  const random = new Random(7);
  for (let round = 0; round < 2000; round++) {
    const members = Array.from({ length: random.int(1, 9) }, (_, i) => `m${i}`);
    const was = [...members, "", "gone", "left"];
    const current = Array.from(
      { length: random.int(0, 24) },
      () => was[random.int(0, was.length - 1)] as string,
    );
    const targets = assign(members, current);
    const had = counts(current, members);
    const has = counts(targets, members);
    expect(targets.every((id) => members.includes(id))).toBe(true);
    expect(Math.max(...has) - Math.min(...has)).toBeLessThanOrEqual(1);
    // Whoever gave one away has its fair share still; who had less lost none.
    const least = Math.floor(current.length / members.length);
    for (const [i, id] of members.entries()) {
      const lost = current.filter((was, p) => was === id && targets[p] !== id).length;
      expect(lost).toBeLessThanOrEqual(Math.max(0, (had[i] ?? 0) - least));
      if (lost > 0) expect(has[i]).toBe((had[i] ?? 0) - lost);
    }
    expect(assign(members, targets)).toEqual(targets);
    expect(assign(members, current)).toEqual(targets);
  }
});
