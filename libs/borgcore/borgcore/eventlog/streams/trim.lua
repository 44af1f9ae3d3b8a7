#!lua flags=allow-oom
-- Keeps a stream small. First it removes entries that every group has acknowledged. If more than the cap are left, it
-- removes the oldest and counts them: at least one group has not acknowledged them.
--
-- KEYS[1] the stream    KEYS[2] hash: topic -> entries trimmed without being acknowledged
-- ARGV[1] the topic     ARGV[2] the cap; 0: remove only acknowledged entries
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

local stream, cap = KEYS[1], tonumber(ARGV[2])
if redis.call('XLEN', stream) <= cap then
  return 0
end
local oldest = oldest_needed(stream)
if oldest then
  redis.call('XTRIM', stream, 'MINID', oldest)
end
local excess = redis.call('XLEN', stream) - cap
if cap == 0 or excess <= 0 then
  return 0
end
redis.call('HINCRBY', KEYS[2], ARGV[1], excess) -- first: what cannot be counted may not be trimmed
redis.call('XTRIM', stream, 'MAXLEN', cap)
return excess
