-- overdue_tasks finds queued requests that should have been taken by a worker for a
-- while, so that the caller can enqueue their tasks if these are missing.
--
-- KEYS[1]: the account's tag
-- lane: 'i' or 'b'
-- overdue_for: ms
-- max: the most requests to read
-- Returns {the number of requests that it read, ref ...} of those that are still queued.
-- They are found again after the same time; others leave the set.
--
-- uses: keys, clock, readable, turn, retry_pause
local lane, overdue_for, max = unpack(ARGV)
local queued = queued_key(lane)

-- A request that is due in the future without a retry pause was stored while the clock
-- was ahead, and is due now. Each call reads another page of them.
local ahead = redis.call('ZCOUNT', queued, '(' .. ms(now), '+inf')
if ahead > 0 then
  local from = now % math.max(1, ahead - max + 1)
  local page = redis.call('ZRANGEBYSCORE', queued, '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', ms(from), max)
  for i = 1, #page, 2 do
    local h = load_readable(page[i])
    if h and not in_retry_pause(h, tonumber(page[i + 1])) then redis.call('ZADD', queued, ms(now), page[i]) end
  end
end

local ids = redis.call('ZRANGEBYSCORE', queued, '-inf', ms(now - overdue_for), 'LIMIT', 0, max)
local out = { ms(#ids) }
for _, id in ipairs(ids) do
  local h, why = load_readable(id)
  if h and h.state == 'q' and h.lane == lane then
    redis.call('ZADD', queued, ms(now), id)
    out[#out + 1] = turn_ref(id, h)
  elseif why == 'newer' then
    redis.call('ZADD', queued, ms(now), id)
  else
    redis.call('ZREM', queued, id)
  end
end
return out
