/**
 * Who of a shared session's members has which partition (pure). member-scripts.ts says the same in Lua, and
 * the contract tests compare the two.
 *
 * Balanced: no member has two more than another. Sticky: no more moves than balance needs. Deterministic: the
 * same for everybody who asks. With more members than partitions some have none.
 */

/**
 * @param members ids, in ascending order by bytes.
 * @param current member of each partition; one that is no member any more, or empty, leaves it free.
 */
export type Assign = (members: readonly string[], current: readonly string[]) => string[];

export const assign: Assign = (members, current) => {
  const has = new Map(members.map((id) => [id, 0]));
  for (const id of current) {
    const count = has.get(id);
    if (count !== undefined) has.set(id, count + 1);
  }
  // Who has most keeps what does not divide evenly.
  const order = members.toSorted((one, other) => (has.get(other) ?? 0) - (has.get(one) ?? 0));
  const share = Math.floor(current.length / members.length);
  const rest = current.length % members.length;
  const room = new Map(order.map((id, i) => [id, i < rest ? share + 1 : share]));
  const take = (id: string): boolean => {
    const left = room.get(id) ?? 0;
    if (left > 0) room.set(id, left - 1);
    return left > 0;
  };
  const kept = current.map((id) => (take(id) ? id : ""));
  let next = 0;
  return kept.map((id) => {
    if (id !== "") return id;
    while (next < order.length && !take(order[next] as string)) next++;
    return order[next] ?? "";
  });
};
