-- Takes over what one member of a group, dead by now, was given and never acknowledged. In one step: a member that comes
-- back reads its own entries first, and is either in time, or finds nothing left of them.
--
-- KEYS[1] the stream
-- ARGV[1] the group  ARGV[2] the member who takes over  ARGV[3] ms without a sign of life  ARGV[4] most entries
--
-- Returns the dead member's name, how many of its entries were pending, and those that still exist; nothing where all live.

local stream, group, heir = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', stream) == 0 then
  return {}
end
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
  local member = {}
  for at = 1, #fields, 2 do
    member[fields[at]] = fields[at + 1]
  end
  if member['name'] ~= heir and member['pending'] > 0 and member['idle'] >= tonumber(ARGV[3]) then
    local ids = {}
    for _, entry in ipairs(redis.call('XPENDING', stream, group, '-', '+', ARGV[4], member['name'])) do
      ids[#ids + 1] = entry[1]
    end
    return {member['name'], #ids, redis.call('XCLAIM', stream, group, heir, 0, unpack(ids))}
  end
end
return {}
