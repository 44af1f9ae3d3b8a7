#!lua flags=allow-oom
-- Creates a missing group, and its stream if that is missing too; the group begins at the oldest entry. A full server
-- must allow it: the group's reader is what empties the stream.
--
-- KEYS[1] the stream    ARGV[1] the group
--
-- Returns 1 if it was created, 0 if it was there.

local reply = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
if reply['err'] and string.find(reply['err'], '^BUSYGROUP') then
  return 0
elseif reply['err'] then
  return reply
end
return 1
