-- Reports trimmed entries: appends the event to its stream and subtracts its number from the counter atomically, so that
-- each entry is reported exactly once. If another process has reported some of them meanwhile, it does nothing.
--
-- KEYS[1] hash: topic -> entries trimmed and not reported    KEYS[2] the event's stream
-- ARGV[1] the trimmed topic  ARGV[2] number of entries in the event  ARGV[3] the field of an entry  ARGV[4] the event
--
-- Returns 1 if it was reported, else 0.

local left, reported = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'), tonumber(ARGV[2])
if left < reported then
  return 0
end
redis.call('XADD', KEYS[2], '*', ARGV[3], ARGV[4])
if left == reported then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HINCRBY', KEYS[1], ARGV[1], -reported)
end
return 1
