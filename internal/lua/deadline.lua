-- Deadlines of requests.
--
-- uses: keys, clock

-- expired reports whether the request's own not_after has passed or, if it has none and
-- its batch's applies, batch_not_after.
local function expired(h, id, batch_not_after)
  local due = false
  if h.deadline == 'd' then due = redis.call('ZSCORE', deadlines_key(), id)
  elseif h.deadline == '-' and h.batch > 0 then due = batch_not_after end
  return due and tonumber(due) <= now
end
