-- expired_batch finds the requests of one chunk of a batch whose not_after has passed,
-- that wait, are queued or held, and have no not_after of their own. Batches that expired
-- first come first.
--
-- KEYS[1]: the account's tag
-- Returns {'1' if there is more to examine now, else '', id, record, ...}. A batch is
-- examined again after a minute, until none of its requests is open: the caller may die
-- before it ends them, and a called request may be held or requeued later.
--
-- uses: keys, clock, record, readable, batch_chunks, batch_deadlines

-- A batch whose not_after has passed is due within a minute, unless it was stored while
-- the clock was ahead: then it is due now. Each call reads another page of them.
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
local key = batch_key(batch)
local number, chunk = next_chunk(batch, tonumber(redis.call('HGET', key, 'late') or '0'), 500)
if not number and chunk then
  redis.call('HSET', key, 'late', chunk)
  return { '1' }
elseif not number then
  local open = 0
  for _, n in ipairs(redis.call('HMGET', key, 'waiting', 'queued', 'calling', 'held')) do open = open + tonumber(n or 0) end
  redis.call('HDEL', key, 'late')
  if open > 0 then redis.call('ZADD', batch_deadlines_key(), ms(now + 60000), batch)
  else redis.call('ZREM', batch_deadlines_key(), batch) end
  return { '1' }
end
redis.call('HSET', key, 'late', number + 1)
local out = { '1' }
for id in string.gmatch(chunk, '\n%d+ ([^\n]+)') do
  local h = load_readable(id)
  if h and h.batch == tonumber(batch) and h.state ~= 'c' and not ENDED[h.state] and h.deadline == '-' then
    out[#out + 1], out[#out + 2] = id, redis.call('GET', record_key(id))
  end
end
return out
