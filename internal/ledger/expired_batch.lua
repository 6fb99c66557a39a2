-- late_batch gives the requests of one chunk of a batch whose not_after has passed,
-- the longest past first, that wait, are queued or held, and have none of their own.
--
-- Returns {'1' where there is more to look at now, id, raw record, ...}. A batch
-- is walked through again after a minute, until nothing of it is open: who ends
-- what was given may die, and what is being called may be held or put back.
--
-- uses: keys, clock, record, readable, batch_chunks, batch_deadlines

-- One whose not_after has passed is due within a minute, unless it was put back while the
-- clock was ahead: then it is due now. A page of them is read, another each time.
local later = '(' .. ms(now + 60000)
local ahead = redis.call('ZCOUNT', batch_deadlines_key(), later, '+inf')
if ahead > 0 then
  local from = now % math.max(1, ahead - 9)
  for _, n in ipairs(redis.call('ZRANGEBYSCORE', batch_deadlines_key(), later, '+inf', 'LIMIT', ms(from), 10)) do
    if tonumber(redis.call('HGET', batch_key(n), 'not_after') or now + 1) <= now then
      redis.call('ZADD', batch_deadlines_key(), ms(now), n)
    end
  end
end

local batch = redis.call('ZRANGEBYSCORE', batch_deadlines_key(), '-inf', ms(now), 'LIMIT', 0, 1)[1]
if not batch then return { '' } end
local counts = batch_key(batch)
local number, chunk = next_chunk(batch, tonumber(redis.call('HGET', counts, 'late') or '0'), 500)
if not number and chunk then
  redis.call('HSET', counts, 'late', chunk)
  return { '1' }
elseif not number then
  local open = 0
  for _, n in ipairs(redis.call('HMGET', counts, 'waiting', 'queued', 'calling', 'held')) do open = open + tonumber(n or 0) end
  redis.call('HDEL', counts, 'late')
  if open > 0 then redis.call('ZADD', batch_deadlines_key(), ms(now + 60000), batch)
  else redis.call('ZREM', batch_deadlines_key(), batch) end
  return { '1' }
end
redis.call('HSET', counts, 'late', number + 1)
local out = { '1' }
for id in string.gmatch(chunk, '\n%d+ ([^\n]+)') do
  local h = load_readable(id)
  if h and h.batch == tonumber(batch) and h.state ~= 'c' and not ENDED[h.state] and h.deadline == '-' then
    out[#out + 1], out[#out + 2] = id, redis.call('GET', record_key(id))
  end
end
return out
