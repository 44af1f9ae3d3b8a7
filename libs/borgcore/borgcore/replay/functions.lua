-- The replay memory, inside Redis >= 7 or Valkey >= 8. The client prepends the library's name and replaces _@ by its hash.
--
-- KEYS[1] slots       hash        slot -> encoded Transition; slot = id % capacity, so storing overwrites the oldest
-- KEYS[2] priorities  sorted set  slot, scored by priority; empty if indexed is 0
-- KEYS[3] meta        hash        spec, capacity, indexed; the counters inserted (also the next id) and sampled
--
-- Ids are not stored: the newest id in a slot follows from the counter and the capacity.
-- Lists of numbers are passed as packed little-endian doubles, which are exact for ids below 2^53.

local CHUNK = 500 -- field-value pairs per call; unpack fails above 3,999

local function counters(meta)
  local found = redis.call('HMGET', meta, 'capacity', 'inserted', 'sampled', 'indexed')
  if not found[1] then
    return nil
  end
  return {
    capacity = tonumber(found[1]),
    inserted = tonumber(found[2] or 0),
    sampled = tonumber(found[3] or 0),
    indexed = found[4] == '1',
  }
end

local function absent()
  return redis.error_reply('NOMEMORY the replay memory is not open')
end

-- Packs a list of numbers as doubles.
local function packed(numbers)
  local parts = {}
  for first = 1, #numbers, CHUNK do
    local last = math.min(first + CHUNK - 1, #numbers)
    parts[#parts + 1] = struct.pack('<' .. string.rep('d', last - first + 1), unpack(numbers, first, last))
  end
  return table.concat(parts)
end

-- Calls command key a1 b1 a2 b2 ... in chunks of pairs.
local function call_pairs(command, key, list)
  for first = 1, #list, 2 * CHUNK do
    redis.call(command, key, unpack(list, first, math.min(first + 2 * CHUNK - 1, #list)))
  end
end

-- open(spec, capacity, indexed) -> {spec, capacity, indexed} as stored; the first caller decides.
local function open(keys, args)
  local meta = keys[3]
  if redis.call('EXISTS', meta) == 0 then
    redis.call('HSET', meta, 'spec', args[1], 'capacity', args[2], 'indexed', args[3], 'inserted', 0, 'sampled', 0)
  end
  return redis.call('HMGET', meta, 'spec', 'capacity', 'indexed')
end

-- push(score, message, score, message, ...) -> {inserted, sampled}
local function push(keys, args)
  local slots, priorities, meta = keys[1], keys[2], keys[3]
  local now = counters(meta)
  if not now then
    return absent()
  end
  local stored, scored = {}, {}
  local id = now.inserted
  for at = 1, #args, 2 do
    local slot = id % now.capacity
    stored[at], stored[at + 1] = slot, args[at + 1]
    scored[at], scored[at + 1] = args[at], slot
    id = id + 1
  end
  call_pairs('HSET', slots, stored)
  if now.indexed then
    call_pairs('ZADD', priorities, scored)
  end
  redis.call('HSET', meta, 'inserted', id)
  return {id, now.sampled}
end

-- Inverse of F(x) = (x^(1-alpha) - 1) / ((n+1)^(1-alpha) - 1), 1 <= x < n + 1, the power law rank^-alpha spread evenly
-- over [rank, rank + 1); its P(rank) = F(rank + 1) - F(rank) is exact.
local function power_law(n, alpha)
  if math.abs(1 - alpha) < 1e-6 then -- the limit; closer to 1, the powers below lose their digits
    local whole = math.log(n + 1)
    return function(u)
      local rank = math.min(math.floor(math.exp(u * whole)), n)
      return rank, math.log((rank + 1) / rank) / whole
    end
  end
  local power = 1 - alpha
  local whole = (n + 1) ^ power - 1
  return function(u)
    local rank = math.max(1, math.min(math.floor((1 + u * whole) ^ (1 / power)), n))
    return rank, ((rank + 1) ^ power - rank ^ power) / whole
  end
end

-- Returns the drawn slots and their probabilities, one per variate.
local function draw(priorities, variates, count, size, alpha, indexed)
  local drawn, chances = {}, {}
  local offset = 1
  if not indexed then
    for i = 1, count do
      local u
      u, offset = struct.unpack('<d', variates, offset)
      drawn[i], chances[i] = math.floor(u * size), 1 / size
    end
    return drawn, chances
  end
  local rank_of = power_law(size, alpha)
  local call = redis.call
  for i = 1, count do
    local u, rank
    u, offset = struct.unpack('<d', variates, offset)
    rank, chances[i] = rank_of(u)
    drawn[i] = call('ZREVRANGE', priorities, rank - 1, rank - 1)[1] or 0
  end
  return drawn, chances
end

-- sample(variates, alpha, min_size, samples_per_insert, min_diff)
--   -> {drawn, inserted, sampled, ids, probabilities, messages}; drawn is 0 if the caller must wait for the limiter, as in
--   Reverb's SampleToInsertRatio: inserted * samples_per_insert - sampled must stay at or above min_diff.
local function sample(keys, args)
  local slots, priorities, meta = keys[1], keys[2], keys[3]
  local now = counters(meta)
  if not now then
    return absent()
  end
  local count, alpha = #args[1] / 8, tonumber(args[2])
  local samples_per_insert, min_diff = tonumber(args[4]), tonumber(args[5])
  local size = math.min(now.inserted, now.capacity)
  local sampled = now.sampled + count
  if size == 0 or size < tonumber(args[3])
    or (samples_per_insert > 0 and now.inserted * samples_per_insert - sampled < min_diff) then
    return {0, now.inserted, now.sampled}
  end
  local indexed = now.indexed and alpha > 0
  local ranked = indexed and redis.call('ZCARD', priorities) or size
  local drawn, chances = draw(priorities, args[1], count, math.max(ranked, 1), alpha, indexed)
  local newest = now.inserted - 1
  local ids, messages = {}, {}
  for first = 1, count, CHUNK do
    local last = math.min(first + CHUNK - 1, count)
    local found = redis.call('HMGET', slots, unpack(drawn, first, last))
    for i = first, last do
      ids[i] = newest - (newest - drawn[i]) % now.capacity
      messages[i] = found[i - first + 1] or ''
    end
  end
  redis.call('HSET', meta, 'sampled', sampled)
  return {1, now.inserted, sampled, packed(ids), packed(chances), messages}
end

-- reprioritise(ids, score, score, ...) -> {applied, inserted, sampled}; an id overwritten or never issued is ignored.
local function reprioritise(keys, args)
  local priorities, meta = keys[2], keys[3]
  local now = counters(meta)
  if not now then
    return absent()
  end
  local oldest = math.max(now.inserted - now.capacity, 0)
  local scored, applied, offset = {}, 0, 1
  for at = 2, #args do
    local id
    id, offset = struct.unpack('<d', args[1], offset)
    if id >= oldest and id < now.inserted then
      applied = applied + 1
      scored[2 * applied - 1], scored[2 * applied] = args[at], id % now.capacity
    end
  end
  if now.indexed then
    call_pairs('ZADD', priorities, scored)
  end
  return {applied, now.inserted, now.sampled}
end

-- ratio(samples_per_insert, max_diff) -> {may insert, inserted, sampled}; the other half of the limiter.
local function ratio(keys, args)
  local now = counters(keys[3])
  if not now then
    return absent()
  end
  local samples_per_insert, max_diff = tonumber(args[1]), tonumber(args[2])
  local may = samples_per_insert == 0 or now.inserted * samples_per_insert - now.sampled <= max_diff
  return {may and 1 or 0, now.inserted, now.sampled}
end

-- Learning continues when memory is full: sample and reprioritise add no data, and open adds only a description.
redis.register_function{function_name = 'borg_open_@', callback = open, flags = {'allow-oom'}}
redis.register_function{function_name = 'borg_push_@', callback = push}
redis.register_function{function_name = 'borg_sample_@', callback = sample, flags = {'allow-oom'}}
redis.register_function{function_name = 'borg_reprioritise_@', callback = reprioritise, flags = {'allow-oom'}}
redis.register_function{function_name = 'borg_ratio_@', callback = ratio, flags = {'no-writes'}}
