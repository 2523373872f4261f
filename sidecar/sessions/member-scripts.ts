/**
 * The steps of a shared session in Lua; membership.ts says the same in TypeScript and says why, and the
 * contract tests hold the two together. Neighbour: redis-scripts.ts begins each with the reading of the record.
 *
 * Beside `format`, `mode`, `generation`, `claim` (empty), `seeks`, `topic` and `changed` the hash has a field
 * `m:<id>` for each member ("<until> <attempt> <sequence> <instance> <server>", the last two percent-encoded)
 * and `p:<partition>` for each partition ("<generation> <owner> <target> <deadline> <dirty> <unclean>
 * <offset> <epoch>").
 */

/** By bytes: the store compares text by its locale. */
export const COMPARE = `
local function compare(one, other)
  for i = 1, math.min(#one, #other) do
    local difference = string.byte(one, i) - string.byte(other, i)
    if difference ~= 0 then return difference end
  end
  return #one - #other
end
`;

/** assignment.ts. The lists begin at 1. */
export const ASSIGN = `
local function assign(ids, current)
  local has, room, order = {}, {}, {}
  for i, id in ipairs(ids) do has[id] = 0; order[i] = id end
  for _, id in ipairs(current) do
    if has[id] then has[id] = has[id] + 1 end
  end
  table.sort(order, function(one, other)
    if has[one] ~= has[other] then return has[one] > has[other] end
    return compare(one, other) < 0
  end)
  local share, rest = math.floor(#current / #ids), #current % #ids
  for i, id in ipairs(order) do room[id] = i <= rest and share + 1 or share end
  local function take(id)
    local left = room[id] or 0
    if left > 0 then room[id] = left - 1 end
    return left > 0
  end
  local targets, nth = {}, 1
  for i, id in ipairs(current) do targets[i] = take(id) and id or '' end
  for i, id in ipairs(targets) do
    if id == '' then
      while order[nth] and not take(order[nth]) do nth = nth + 1 end
      targets[i] = order[nth] or ''
    end
  end
  return targets
end
`;

/** Needs READ_RECORD and STORE_TIME before it. */
const RECORD = `
local ours = live and r.mode == 'shared'
local members, shares = {}, {}
local last = r and tonumber(r.generation) or 0
local seeks = ours and tonumber(r.seeks) or 0
if ours then
  for name, text in pairs(r) do
    local id = string.match(name, '^m:(.*)$')
    local at = string.match(name, '^p:(%d+)$')
    if id then
      local till, attempt, sequence, instance, server =
        string.match(text, '^(%d+) (%d+) (%-?%d+) (%S*) (%S*)$')
      if not till then return {'unreadable', 'a shared session with another kind of member'} end
      members[id] = {till = tonumber(till), attempt = tonumber(attempt), sequence = tonumber(sequence),
        instance = instance, server = server}
    elseif at then
      local generation, owner, target, deadline, dirty, unclean, offset, epoch =
        string.match(text, '^(%d+) (%S*) (%S*) (%d+) ([01]) ([01]) (%d+) (%-?%d+)$')
      if not generation then return {'unreadable', 'a shared session with another kind of partition'} end
      shares[tonumber(at) + 1] = {generation = tonumber(generation), owner = owner, target = target,
        deadline = tonumber(deadline), dirty = dirty, unclean = unclean, offset = offset, epoch = epoch}
    end
  end
end
local function memberText(m)
  return table.concat({exact(m.till), exact(m.attempt), exact(m.sequence), m.instance, m.server}, ' ')
end
local function shareText(s)
  return table.concat({exact(s.generation), s.owner, s.target, exact(s.deadline), s.dirty, s.unclean,
    s.offset, s.epoch}, ' ')
end
local function view(word)
  local answer = {word, exact(last), exact(seeks), r.topic, r.changed, exact(now), exact(#shares)}
  for _, s in ipairs(shares) do answer[#answer + 1] = shareText(s) end
  for id, m in pairs(members) do
    answer[#answer + 1] = id
    answer[#answer + 1] = memberText(m)
  end
  return answer
end
`;

const STEPS = `
local function newShare(offset, epoch)
  return {generation = 0, owner = '', target = '', deadline = 0, dirty = '0', unclean = '0',
    offset = offset, epoch = epoch}
end
local function grow(partitions)
  while #shares < partitions do shares[#shares + 1] = newShare('0', '-1') end
end
-- M1.
local function give(s, owner)
  last = math.max(last + 1, now)
  s.generation, s.owner, s.deadline, s.unclean, s.dirty = last, owner, 0, s.dirty, '1'
end
-- M2.
local function settle(revoke)
  local ids, current = {}, {}
  for id, m in pairs(members) do
    if m.till < now then members[id] = nil else ids[#ids + 1] = id end
  end
  table.sort(ids, function(one, other) return compare(one, other) < 0 end)
  for i, s in ipairs(shares) do current[i] = s.target end
  local targets = #ids > 0 and assign(ids, current) or {}
  for i, s in ipairs(shares) do
    s.target = targets[i] or ''
    if not members[s.owner] then s.owner = '' end
    local moves = s.owner ~= '' and s.owner ~= s.target
    if not moves then s.deadline = 0 elseif s.deadline == 0 then s.deadline = now + revoke end
    local free = s.owner == '' or (moves and s.deadline <= now)
    if free and s.target ~= '' then give(s, s.target) end
  end
end
local function write(topic)
  local fields = {'format', FORMAT, 'mode', 'shared', 'generation', exact(last), 'claim', '',
    'seeks', exact(seeks), 'topic', topic, 'changed', exact(now)}
  local gone = {}
  local function put(name, text)
    if not r or r[name] ~= text then
      fields[#fields + 1] = name
      fields[#fields + 1] = text
    end
  end
  for id, m in pairs(members) do put('m:' .. id, memberText(m)) end
  for i, s in ipairs(shares) do put('p:' .. exact(i - 1), shareText(s)) end
  for name in pairs(ours and r or {}) do
    local id = string.match(name, '^m:(.*)$')
    local at = string.match(name, '^p:(%d+)$')
    if (id and not members[id]) or (at and tonumber(at) >= #shares) then gone[#gone + 1] = name end
  end
  if r and not live then redis.call('DEL', key) end
  for i = 1, #fields, 1000 do redis.call('HSET', key, unpack(fields, i, math.min(i + 999, #fields))) end
  for i = 1, #gone, 1000 do redis.call('HDEL', key, unpack(gone, i, math.min(i + 999, #gone))) end
  r = {topic = topic, changed = exact(now)}
end
`;

const JOIN = `
local id, topic, instance, attempt, server = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local lapse, revoke, partitions = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local anew, starts, lost = ARGV[9] == '1', ARGV[10] == '1', ARGV[11]
-- T6.
local first = 14 + 2 * tonumber(ARGV[13])
if not r and lost ~= '' then
  r, live, ours, seeks = {topic = lost, changed = exact(now)}, true, true, tonumber(ARGV[12])
  for i = 14, first - 1, 2 do
    local s = newShare(ARGV[i], ARGV[i + 1])
    s.dirty = '1'
    shares[#shares + 1] = s
  end
end
if live and not ours then return {'other-mode'} end
local known = members[id] ~= nil
if not live and not starts then return {'unset'} end
if live and not known then
  local newest = -1
  for _, m in pairs(members) do
    if instance ~= '' and m.instance == instance then newest = math.max(newest, m.attempt) end
  end
  if newest > attempt then return {'late', exact(newest)} end
  if r.topic ~= topic and not anew then return view('other-topic') end
end
if not live or (anew and not known) then
  members, shares = {}, {}
  for i = first, #ARGV, 2 do shares[#shares + 1] = newShare(ARGV[i], ARGV[i + 1]) end
  -- T5.
  if live then seeks = seeks + 1 else last = math.max(last + 1, now) end
end
grow(partitions)
if not known then
  for old, m in pairs(members) do
    if instance ~= '' and m.instance == instance then
      members[old] = nil
      for _, s in ipairs(shares) do
        if s.target == old then s.target = id end
        if s.owner == old then give(s, id) end
      end
    end
  end
  members[id] = {till = now + lapse, attempt = attempt, sequence = -1, instance = instance, server = server}
end
settle(revoke)
write(topic)
return view('joined')
`;

const RENEW = `
local id, topic, instance, shown, sequence =
  ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lapse, revoke, partitions, leaves =
  tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9] == '1'
if not r then return {'none'} end
if not ours then return {'forgotten'} end
local me = members[id]
if not me or topic ~= r.topic then
  for _, m in pairs(members) do
    if instance ~= '' and m.instance == instance then
      return {'no-member', m.instance, exact(m.attempt), m.server}
    end
  end
  return {'no-member'}
end
-- M3.
if sequence <= me.sequence then return view('renewed') end
me.sequence, me.till = sequence, now + lapse
seeks = math.max(seeks, shown)
grow(partitions)
for i = 10, #ARGV, 6 do
  local s, generation = shares[tonumber(ARGV[i]) + 1], tonumber(ARGV[i + 1])
  local order = s and generation - s.generation
  local equal = order == 0
  if equal then order = compare(id, s.owner) end
  if s and order >= 0 and not (order > 0 and equal and s.owner == '') then
    last = math.max(last, generation)
    s.generation, s.owner = generation, ARGV[i + 5] == '1' and '' or id
    -- M4.
    if order > 0 then s.target, s.deadline = id, 0 end
    s.dirty = ARGV[i + 4] == '1' and '0' or '1'
    if shown >= seeks then s.offset, s.epoch = ARGV[i + 2], ARGV[i + 3] end
  end
end
if leaves then members[id] = nil end
settle(revoke)
write(topic)
return view('renewed')
`;

const RESTORE = `
if r then return {'restored'} end
local topic, lapse, partitions = ARGV[1], tonumber(ARGV[4]), tonumber(ARGV[5])
last, seeks = tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 6, 5 + partitions * 5, 5 do
  local s = newShare(ARGV[i + 3], ARGV[i + 4])
  s.generation, s.owner, s.target, s.dirty = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], '1'
  shares[#shares + 1] = s
end
for i = 6 + partitions * 5, #ARGV, 4 do
  members[ARGV[i]] = {till = now + lapse, attempt = tonumber(ARGV[i + 1]), sequence = -1,
    instance = ARGV[i + 2], server = ARGV[i + 3]}
end
write(topic)
return {'restored'}
`;

/** @param reading of the record and the store's time, in Lua; and the format that records have. */
export function memberSteps(reading: string, format: string) {
  const record = reading + COMPARE + RECORD;
  const step = `local FORMAT = '${format}'\n${record}${ASSIGN}${STEPS}`;
  return { record, join: step + JOIN, renew: step + RENEW, restore: step + RESTORE };
}
