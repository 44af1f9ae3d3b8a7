#!lua flags=allow-oom
-- Appends dead letters. A full server must allow it: until they are written, the records cannot be acknowledged, and so
-- not be removed.
--
-- KEYS[1] the stream    ARGV[1] the field of an entry    ARGV[2...] the dead letters

for at = 2, #ARGV do
  redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[at])
end
return #ARGV - 1
