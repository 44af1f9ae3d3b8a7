#!lua flags=allow-oom
-- Appends one dead letter. A full server must allow it: until it is written, the record cannot be acknowledged, and so
-- not be removed.
--
-- KEYS[1] the stream    ARGV[1] the field of an entry    ARGV[2] the dead letter

return redis.call('XADD', KEYS[1], '*', ARGV[1], ARGV[2])
