-- Takes over entries that one dead member of a group has not acknowledged. This is atomic: a member that comes back
-- reads its own entries first, and either still has them or finds none.
--
-- KEYS[1] the stream
-- ARGV[1] the group  ARGV[2] the member that takes over  ARGV[3] idle ms of a dead member  ARGV[4] most entries
--
-- Returns the dead member's name, the number of its pending entries, and those that still exist; {} if none is dead.

local stream, group, successor = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', stream) == 0 then
  return {}
end
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local member = {}
  for at = 1, #fields, 2 do
    member[fields[at]] = fields[at + 1]
  end
  if member['name'] ~= successor and member['pending'] > 0 and member['idle'] >= tonumber(ARGV[3]) then
    local ids = {}
    for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[4], member['name'])) do
      ids[#ids + 1] = entry[1]
    end
    return {member['name'], #ids, redis.call('XCLAIM', stream, group, successor, 0, unpack(ids))}
  end
end
return {}
