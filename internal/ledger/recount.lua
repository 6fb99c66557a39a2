-- recount reads a batch's counters, and in the same step the headers of the requests
-- that may have moved since they were read: those in ARGV[6...], and those that are
-- queued, called or have an event since.
--
-- ARGV[1] the batch's number   ARGV[2] the last event that is known
-- ARGV[3], [4] from and until when a request that moved may be due, in ms
-- ARGV[5] most members of a set, and twice as many requests in all
-- Returns {} if there are more, or {the batch's fields and values, id, header ...}.
--
-- uses: keys, record
local most = tonumber(ARGV[5])
local ids, known, full = {}, {}, false
local function add(id)
  if id and not known[id] then
    known[id] = true
    ids[#ids + 1] = id
  end
end
local function read(members, id)
  full = full or #members >= most
  for _, member in ipairs(members) do add(id(member)) end
end
for i = 6, #ARGV do add(ARGV[i]) end
for lane in pairs(LANE) do
  read(redis.call('ZRANGEBYSCORE', queued_key(lane), ARGV[3], ARGV[4], 'LIMIT', 0, most), function(id) return id end)
end
read(redis.call('ZRANGE', tag .. ':calls', 0, most - 1), function(call) return string.match(call, '^%S+ (%S+)') end)
read(redis.call('XRANGE', tag .. ':results', '(' .. ARGV[2], '+', 'COUNT', most), function(event)
  for i = 1, #event[2], 2 do
    if event[2][i] == 'application_id' then return event[2][i + 1] end
  end
end)
if full or #ids > 2 * most then return {} end
local out = { redis.call('HGETALL', batch_key(ARGV[1])) }
for _, id in ipairs(ids) do
  out[#out + 1], out[#out + 2] = id, redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
end
return out
