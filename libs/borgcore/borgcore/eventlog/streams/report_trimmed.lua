-- Tells what was trimmed: puts the event into its stream and takes what it says off the counter, in one step, so that
-- nothing is told twice or never. Where another has told some of it meanwhile, nothing is done.
--
-- KEYS[1] hash: topic -> entries trimmed    KEYS[2] the event's stream
-- ARGV[1] the topic that was trimmed  ARGV[2] entries that the event says  ARGV[3] the field of an entry  ARGV[4] the event
--
-- Returns 1 where it was told, else 0.

local left, said = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '0'), tonumber(ARGV[2])
if left < said then
  return 0
end
redis.call('XADD', KEYS[2], '*', ARGV[3], ARGV[4])
if left == said then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HINCRBY', KEYS[1], ARGV[1], -said)
end
return 1
