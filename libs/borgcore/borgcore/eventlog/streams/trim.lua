-- Keeps a stream small. First goes what every group has acknowledged; then, where more than the cap is left, the oldest
-- entries, which are counted: nobody, or not everybody, has dealt with them.
--
-- KEYS[1] the stream    KEYS[2] hash: topic -> entries trimmed so
-- ARGV[1] the topic     ARGV[2] the cap; 0: remove only what is acknowledged
--
-- Ids are compared as text: a part of one may be larger than Lua's numbers are exact.

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

-- The id that follows; where it cannot be told exactly, the id itself, which keeps one entry more.
local function after(id)
  local ms, seq = split(id)
  if #seq > 15 then
    return id
  end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end

-- The first id that some group has not acknowledged; nil where there is no group.
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
redis.call('HINCRBY', KEYS[2], ARGV[1], excess) -- before the trim: refused for want of memory, it must stop the trim
redis.call('XTRIM', stream, 'MAXLEN', cap)
return excess
