-- stalled_deliveries finds pending deliveries that should have been tried for a while, so
-- that the caller can enqueue their tasks if these are missing.
--
-- KEYS[1]: the account's tag
-- overdue_for: ms
-- max: the most deliveries to read
-- Returns {how many deliveries it read, event, application id, host, ...}. They are found
-- again after the same time.
--
-- uses: clock, delivery
local overdue_for, max = unpack(ARGV)

-- A delivery that is due in the future was made or tried before and pauses, at most for
-- 15 h (see CallbackPauses). Otherwise it was stored while the clock was ahead, and is
-- due now. Each call reads another page of them.
local MAX_PAUSE_OF_DELIVERY = 54000000
local ahead = redis.call('ZCOUNT', pending_key(), '(' .. ms(now), '+inf')
if ahead > 0 then
  local from = now % math.max(1, ahead - max + 1)
  local page = redis.call('ZRANGEBYSCORE', pending_key(), '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', ms(from), max)
  for i = 1, #page, 2 do
    local d = redis.call('HMGET', delivery_key(page[i]), 'created_at', 'at')
    local last = math.max(tonumber(d[1] or 0), tonumber(d[2] or 0))
    if last > now or tonumber(page[i + 1]) > last + MAX_PAUSE_OF_DELIVERY then redis.call('ZADD', pending_key(), ms(now), page[i]) end
  end
end

local events = redis.call('ZRANGEBYSCORE', pending_key(), '-inf', ms(now - overdue_for), 'LIMIT', 0, max)
local out = { ms(#events) }
for _, event in ipairs(events) do
  local d = redis.call('HMGET', delivery_key(event), 'status', 'application_id', 'host')
  if d[1] == 'pending' then
    redis.call('ZADD', pending_key(), ms(now), event)
    out[#out + 1], out[#out + 2], out[#out + 3] = event, d[2], d[3]
  else
    redis.call('ZREM', pending_key(), event)
  end
end
return out
