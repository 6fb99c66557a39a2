-- overdue names requests that should have been taken up for a while, so that
-- the caller can see to it that they have their task.
--
-- ARGV[1] 'i' or 'b'   ARGV[2] for how many ms they are due   ARGV[3] how many
-- Returns {how many it looked at, ref ...} of those that are queued still. They
-- are looked at again after as long; others leave the set.
--
-- uses: keys, clock, readable, turn, retry_pause
local queued = queued_key(ARGV[1])

-- What is due in the future, and does not pause, was written while the clock was ahead:
-- it is due. A page of them is read, another each time.
local ahead = redis.call('ZCOUNT', queued, '(' .. ms(now), '+inf')
if ahead > 0 then
  local from = now % math.max(1, ahead - ARGV[3] + 1)
  local page = redis.call('ZRANGEBYSCORE', queued, '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', ms(from), ARGV[3])
  for i = 1, #page, 2 do
    local h = load_readable(page[i])
    if h and not in_retry_pause(h, tonumber(page[i + 1])) then redis.call('ZADD', queued, ms(now), page[i]) end
  end
end

local ids = redis.call('ZRANGEBYSCORE', queued, '-inf', ms(now - ARGV[2]), 'LIMIT', 0, ARGV[3])
local out = { ms(#ids) }
for _, id in ipairs(ids) do
  local h, why = load_readable(id)
  if h and h.state == 'q' and h.lane == ARGV[1] then
    redis.call('ZADD', queued, ms(now), id)
    out[#out + 1] = turn_ref(id, h)
  elseif why == 'newer' then
    redis.call('ZADD', queued, ms(now), id)
  else
    redis.call('ZREM', queued, id)
  end
end
return out
