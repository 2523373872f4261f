/**
 * The steps of a session in Lua, each atomic at the store; memory-store.ts says the same in TypeScript, and
 * the contract tests hold the two together. Neighbour: redis-store.ts sends them and reads the answers.
 *
 * A record is a hash: `format`, `generation`, `claim`, `seeks`, then of a live session `topic`, `position`
 * (absent at first), `instance`, `attempt`, `server`, `held`, `unclean`, `sequence`, `changed`, and `before`
 * where its claim moved it (T7; empty: it was new); of a forgotten one `forgotten`; of a shared one what
 * member-scripts.ts says. Numbers are decimal text; Lua's are doubles, so each stays below 2^53 and is written
 * with %.0f, never in the short form that drops digits.
 */
import { createHash } from "node:crypto";
import { COMPARE, memberSteps } from "./member-scripts.ts";

export interface Script {
  readonly text: string;
  readonly sha1: string;
}

const FORMAT = "throughline-session/1";
const FORGOTTEN_MS = 24 * 60 * 60 * 1000;

/** Reads the record into `r`, nil when there is none; or says in `foreign` why it is not ours to touch. */
const LOOK = `
local key = KEYS[1]
local function look()
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return nil end
  if kind ~= 'hash' then return nil, 'a ' .. kind end
  local format = redis.call('HGET', key, 'format')
  if not format then return nil, 'a hash without a format' end
  if format ~= '${FORMAT}' then return nil, 'the format ' .. string.sub(format, 1, 60) end
  local all = redis.call('HGETALL', key)
  local r = {}
  for i = 1, #all, 2 do r[all[i]] = all[i + 1] end
  local numbers = {'generation', 'seeks'}
  if not r.forgotten then numbers = {'generation', 'seeks', 'attempt', 'sequence', 'changed'} end
  if r.mode == 'shared' then numbers = {'generation', 'seeks', 'changed'} end
  for _, name in ipairs(numbers) do
    local number = tonumber(r[name])
    if not number or number < -1 or number > 9007199254740991 then
      return nil, 'a session without a ' .. name
    end
  end
  return r
end
local r, foreign = look()
local live = r and not r.forgotten
`;

const READ_RECORD = `${LOOK}
if foreign then return {'unreadable', foreign} end
`;

const STORE_TIME = `
local function time()
  local parts = redis.call('TIME')
  return parts[1] * 1000 + math.floor(parts[2] / 1000)
end
local now = time()
local function exact(number) return string.format('%.0f', number) end
-- T1.
local function above(generation)
  return exact(math.max(now, generation and generation + 1 or 0))
end
`;

const CLAIM = `
-- T7. False: nowhere.
local function stood()
  if r.before and tonumber(r.sequence) < 0 then return r.before ~= '' and r.before end
  return r.position or false
end
local claim, topic, instance, attempt, server = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local moves, to, detached = ARGV[6], ARGV[7], ARGV[8]
-- T6.
if not r and ARGV[9] ~= '' then
  r = {generation = '0', seeks = ARGV[10], topic = ARGV[9], position = ARGV[11], held = '1'}
  live = true
end
if live and r.mode then return {'other-mode'} end
local same = false
if live then
  if r.claim == claim then
    return {'claimed', r.generation, r.claim, r.seeks, stood(), r.unclean}
  end
  same = instance ~= '' and r.instance == instance
  if same and tonumber(attempt) < tonumber(r.attempt) then return {'late', r.attempt} end
  -- A generation is the time of its claim, or later.
  if detached ~= '' and not same and tonumber(r.generation) >= now - tonumber(detached) then
    return {'superseded', r.instance, r.attempt, r.server}
  end
  if r.topic ~= topic and moves == '0' then return {'other-topic', r.topic, r.position or false} end
end
local generation = above(r and tonumber(r.generation))
local before = live and r.position or false
-- T7.
if same and moves == '1' and to == before then before = stood() end
local seeks = live and r.seeks or '0'
-- T5.
if live and r.topic ~= topic then seeks = exact(tonumber(seeks) + 1) end
local unclean = live and r.held or '0'
-- What ForgetSession left would take its expiry along (T4). Nothing else: a full store refuses a script
-- at its first write only.
if r and not live then redis.call('DEL', key) end
redis.call('HSET', key, 'format', '${FORMAT}', 'generation', generation, 'claim', claim, 'seeks', seeks,
  'topic', topic, 'instance', instance, 'attempt', attempt, 'server', server, 'held', '1',
  'unclean', unclean, 'sequence', '-1', 'changed', exact(now))
local position = moves == '1' and to or before
if position then redis.call('HSET', key, 'position', position) end
if moves == '1' then redis.call('HSET', key, 'before', before or '')
else redis.call('HDEL', key, 'before') end
return {'claimed', generation, claim, seeks, before, unclean}
`;

const SAVE = `
local generation, claim, seeks = ARGV[1], ARGV[2], ARGV[3]
local topic, instance, attempt, server = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local sequence, position, held = ARGV[8], ARGV[9], ARGV[10]
if live and r.mode then return {'superseded'} end
local order = 1
if r then
  order = tonumber(generation) - tonumber(r.generation)
  if order == 0 then order = compare(claim, r.claim) end
end
if order > 0 then
  -- T3: the record was lost, or is older than its holder.
  if r then redis.call('DEL', key) end
  redis.call('HSET', key, 'format', '${FORMAT}', 'generation', generation, 'claim', claim, 'seeks', seeks,
    'topic', topic, 'instance', instance, 'attempt', attempt, 'server', server, 'held', held,
    'unclean', '1', 'sequence', sequence, 'changed', exact(now), 'position', position)
  return {'saved'}
end
if not live then return {'superseded'} end
if order < 0 then return {'superseded', r.instance, r.attempt, r.server} end
local missed = tonumber(r.seeks) - tonumber(seeks)
if missed > 0 then return {'sought', r.generation, r.claim, r.seeks, r.position} end
-- Fewer seeks than the holder saw: a failover lost one. T2: what is not newer moves nothing.
if missed < 0 or tonumber(sequence) > tonumber(r.sequence) then
  redis.call('HSET', key, 'seeks', seeks, 'sequence', sequence, 'position', position, 'held', held,
    'changed', exact(now))
end
return {'saved'}
`;

const READ = `
if not r then return {'none'} end
if ours then return view('shared') end
if not live then return {'none', r.generation, r.claim, r.seeks} end
return {'session', r.generation, r.claim, r.seeks, r.topic, r.position or false,
  r.instance, r.attempt, r.server, r.held, r.changed}
`;

const SEEK = `
if not live then return {'none'} end
redis.call('HINCRBY', key, 'seeks', 1)
redis.call('HSET', key, 'topic', ARGV[1])
-- A token cannot be read here.
if not ours then
  redis.call('HSET', key, 'position', ARGV[2])
  redis.call('HDEL', key, 'before')
else
  for i, s in ipairs(shares) do
    s.offset, s.epoch = ARGV[1 + 2 * i] or '0', ARGV[2 + 2 * i] or '-1'
    redis.call('HSET', key, 'p:' .. exact(i - 1), shareText(s))
  end
end
return {'sought'}
`;

/** Who asks for it wants the key free, whatever is there. */
const FORGET = `
if not live and not foreign then return {'none'} end
local generation = above(r and tonumber(r.generation))
redis.call('DEL', key)
redis.call('HSET', key, 'format', '${FORMAT}', 'generation', generation, 'claim', '',
  'seeks', r and r.seeks or '0', 'forgotten', '1')
redis.call('PEXPIRE', key, ${FORGOTTEN_MS})
return {'forgotten'}
`;

const MEMBERS = memberSteps(READ_RECORD + STORE_TIME, FORMAT);

export const SCRIPTS = {
  claim: script(READ_RECORD + STORE_TIME + CLAIM),
  save: script(READ_RECORD + STORE_TIME + COMPARE + SAVE),
  read: script(MEMBERS.record + READ),
  seek: script(MEMBERS.record + SEEK),
  forget: script(LOOK + STORE_TIME + FORGET),
  join: script(MEMBERS.join),
  renew: script(MEMBERS.renew),
  restore: script(MEMBERS.restore),
} as const;

function script(text: string): Script {
  return { text, sha1: createHash("sha1").update(text).digest("hex") };
}
