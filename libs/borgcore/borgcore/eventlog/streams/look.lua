#!lua flags=no-writes
-- Looks at a stream. It is a script because a full server answers no transaction, not even one that only reads.
--
-- KEYS[1] the stream    ARGV[1] a group
--
-- Returns {length, newest id, pending, last delivered id, lag}: the newest id is '' without entries, pending -1 without the
-- group, lag -1 if the server does not know it.

local stream = KEYS[1]
if redis.call('EXISTS', stream) == 0 then
  return {0, '', -1, '', -1}
end
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
local look = {redis.call('XLEN', stream), newest and newest[1] or '', -1, '', -1}
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = {}
  for at = 1, #fields, 2 do
    group[fields[at]] = fields[at + 1]
  end
  if group['name'] == ARGV[1] then
    look[3], look[4], look[5] = group['pending'], group['last-delivered-id'], group['lag'] or -1
  end
end
return look
