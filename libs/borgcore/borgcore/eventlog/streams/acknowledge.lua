#!lua flags=allow-oom
-- Acknowledges entries and counts them for the account of trim.lua: what is removed as acknowledged without having been
-- counted here was skipped (XGROUP SETID, XGROUP DELCONSUMER, XACK by another client).
--
-- KEYS[1] the stream    KEYS[2] the accounts    ARGV[1] the group    ARGV[2] the topic    ARGV[3...] the ids

local acknowledged = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, 3))
redis.call('HINCRBY', KEYS[2], ARGV[2] .. '@' .. ARGV[1] .. ':acked', acknowledged)
return acknowledged
