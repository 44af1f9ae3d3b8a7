#!lua flags=allow-oom
-- Creates a missing group, and its stream if that is missing too; the group begins at the oldest entry. A full server
-- must allow it: the group's reader is what empties the stream.
--
-- If the group was there before, what was removed meanwhile is lost to it.
--
-- KEYS[1] the stream    KEYS[2] the accounts of trim.lua    ARGV[1] the group    ARGV[2] the topic
--
-- Returns 1 if it was created, 0 if it was there.

local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply['err'] and string.find(reply['err'], '^BUSYGROUP') then
  return 0
elseif reply['err'] then
  return reply
end
local before = redis.call('HGET', KEYS[2], ARGV[2] .. '@' .. ARGV[1])
if before then
  local info = {}
  local fields = redis.call('XINFO', 'STREAM', KEYS[1])
  for at = 1, #fields, 2 do
    info[fields[at]] = fields[at + 1]
  end
  local lost = info['entries-added'] - info['length'] - tonumber(before)
  if lost > 0 then
    redis.call('HINCRBY', KEYS[2], ARGV[2] .. ':lost', lost)
  end
  redis.call('HDEL', KEYS[2], ARGV[2] .. '@' .. ARGV[1] .. ':base')
end
return 1
