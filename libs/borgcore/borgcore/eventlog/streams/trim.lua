#!lua flags=allow-oom
-- Keeps a stream small. First it removes entries that every group has acknowledged. If more than the cap are left, it
-- removes the oldest and counts them: at least one group has not acknowledged them.
--
-- It also counts what others removed (XTRIM, XDEL, DEL, an eviction): it keeps an account of the stream.
--
-- KEYS[1] the stream    KEYS[2] hash: topic -> entries trimmed without being acknowledged
-- KEYS[3] hash: topic -> the account, topic:lost -> entries that others removed, topic:done -> entries removed because all
--         groups had acknowledged them; of a reader's group topic@group -> entries removed at its last call,
--         topic@group:acked -> entries that it acknowledged, topic@group:base -> topic:done less that, as it should be
-- ARGV[1] the topic     ARGV[2] the cap; 0: remove only acknowledged entries
-- ARGV[3] the account that the caller remembers, '' for none; it counts if the server has lost its own
-- ARGV[4] the group of a reader, which takes the count of entries that others removed; '' for none
--
-- Returns {account, entries that others removed}.
--
-- Ids are compared as text: their parts may exceed the integers that Lua's numbers represent exactly.

local function split(id)
  return string.match(id, '^(%d+)-(%d+)$')
end

local function less(a, b)
  return #a < #b or (#a == #b and a < b)
end

local function before(a, b)
  local a_ms, a_seq = split(a)
  local b_ms, b_seq = split(b)
  return less(a_ms, b_ms) or (a_ms == b_ms and less(a_seq, b_seq))
end

-- The following id; if it cannot be computed exactly, the id itself, which keeps one entry more.
local function after(id)
  local ms, seq = split(id)
  if #seq > 15 then
    return id
  end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end

-- The first id that some group has not acknowledged; nil without groups.
local function oldest_needed(stream)
  local oldest
  for _, fields in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
    local group = {}
    for at = 1, #fields, 2 do
      group[fields[at]] = fields[at + 1]
    end
    local needed = after(group['last-delivered-id'])
    if group['pending'] > 0 then
      needed = redis.call('XPENDING', stream, group['name'])[2]
    end
    if not oldest or before(needed, oldest) then
      oldest = needed
    end
  end
  return oldest
end

-- Entries ever added, entries left, and the id of the first one: the account of a stream.
local function count(stream)
  if redis.call('EXISTS', stream) == 0 then
    return 0, 0, '-'
  end
  local info = {}
  local fields = redis.call('XINFO', 'STREAM', stream)
  for at = 1, #fields, 2 do
    info[fields[at]] = fields[at + 1]
  end
  return info['entries-added'], info['length'], info['first-entry'] and info['first-entry'][1] or '-'
end

-- Entries that somebody else removed since the account was written: what we remove is in it. At most these were unread.
-- A stream is another one if it has fewer removed entries than before, or as many but not the same first entry. An
-- account that a caller remembered may lack our newer trims, so it only tells whether the stream is another one.
local function removed_by_others(account, remembered, added, length, first)
  local before_added, before_length, before_first = string.match(account, '^(%d+) (%d+) (%S+)$')
  local removed = (added - length) - (before_added - before_length)
  local moved = tonumber(before_length) > 0 and first ~= before_first
  if added < tonumber(before_added) or removed < 0 or (removed == 0 and moved) then
    return tonumber(before_length) + added - length
  end
  return remembered and 0 or removed
end

local function trim(stream, cap, counters, accounts, topic)
  if redis.call('XLEN', stream) <= cap then
    return
  end
  local oldest = oldest_needed(stream)
  if oldest then
    redis.call('HINCRBY', accounts, topic .. ':done', redis.call('XTRIM', stream, 'MINID', oldest))
  end
  local excess = redis.call('XLEN', stream) - cap
  if cap > 0 and excess > 0 then
    redis.call('HINCRBY', counters, topic, excess) -- first: what cannot be counted may not be trimmed
    redis.call('XTRIM', stream, 'MAXLEN', cap)
  end
end

-- Entries removed as acknowledged that the group never acknowledged through us: it was moved past them. Once nothing is
-- pending for the only group, both counts agree but for acknowledged entries that were removed otherwise.
local function skipped(stream, accounts, topic, group)
  local name = topic .. '@' .. group
  local done = tonumber(redis.call('HGET', accounts, topic .. ':done') or '0')
  local acked = tonumber(redis.call('HGET', accounts, name .. ':acked') or '0')
  local base = redis.call('HGET', accounts, name .. ':base')
  local found = base and done - tonumber(base) - acked or 0
  local groups = redis.call('EXISTS', stream) == 1 and redis.call('XINFO', 'GROUPS', stream) or {}
  local idle = #groups == 1 and redis.call('XPENDING', stream, group)[1] == 0
  if not base or found > 0 or idle then
    redis.call('HSET', accounts, name .. ':base', string.format('%.0f', done - acked))
  end
  return math.max(found, 0)
end

local stream, counters, accounts = KEYS[1], KEYS[2], KEYS[3]
local topic, cap, remembered, group = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4]
local account = redis.call('HGET', accounts, topic)
local added, length, first = count(stream)
if account or remembered ~= '' then
  local lost = removed_by_others(account or remembered, not account, added, length, first)
  if lost > 0 then
    redis.call('HINCRBY', accounts, topic .. ':lost', lost)
  end
end
trim(stream, cap, counters, accounts, topic)
added, length, first = count(stream)
account = string.format('%.0f %.0f %s', added, length, first)
redis.call('HSET', accounts, topic, account)
local lost = 0
if group ~= '' then
  redis.call('HSET', accounts, topic .. '@' .. group, string.format('%.0f', added - length))
  lost = tonumber(redis.call('HGET', accounts, topic .. ':lost') or '0') + skipped(stream, accounts, topic, group)
  redis.call('HDEL', accounts, topic .. ':lost')
end
return {account, lost}
