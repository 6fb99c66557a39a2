-- recount reads a batch's counters and, in the same step, the headers of the requests
-- that may have moved since they were read: those of the rows, and those that are
-- queued, called, waiting to be fed again or have an event since.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- last_event: the last event that is known
-- due_from, due_until: when a queued request that moved may be due, ms
-- ends: how much of either end of what is to be fed again is read, where it grows
-- max: the most members of a set; all requests together may be twice as many
-- rows: id
-- Returns {} if there are more, else {the batch's fields and values, id, header, ...}.
--
-- uses: keys, record, feeding
local batch, last_event, due_from, due_until, ends, max = unpack(ARGV, 1, 6)
max = tonumber(max)
local ids, known, full = {}, {}, false
local function add(id)
  if id and not known[id] then
    known[id] = true
    ids[#ids + 1] = id
  end
end
local function add_all(members, id_of)
  full = full or #members >= max
  for _, member in ipairs(members) do add(id_of(member)) end
end
for i = 7, #ARGV do
  local id = unpack(ARGV, i, i)
  add(id)
end
for lane in pairs(LANE) do
  add_all(redis.call('ZRANGEBYSCORE', queued_key(lane), due_from, due_until, 'LIMIT', 0, max), function(id) return id end)
end
for _, id in ipairs(redis.call('LRANGE', requeued_key(batch), 0, ends - 1)) do add(id) end
for _, id in ipairs(redis.call('LRANGE', requeued_key(batch), -ends, -1)) do add(id) end
add_all(redis.call('ZRANGE', tag .. ':calls', 0, max - 1), function(call) return string.match(call, '^%S+ (%S+)') end)
add_all(redis.call('XRANGE', tag .. ':results', '(' .. last_event, '+', 'COUNT', max), function(event)
  for i = 1, #event[2], 2 do
    if event[2][i] == 'application_id' then return event[2][i + 1] end
  end
end)
if full or #ids > 2 * max then return {} end
local out = { redis.call('HGETALL', batch_key(batch)) }
for _, id in ipairs(ids) do
  out[#out + 1], out[#out + 2] = id, redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
end
return out
