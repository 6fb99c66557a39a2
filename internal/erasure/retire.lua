-- retire removes the first requests of a minute, see ended.lua, that ended by a time, and
-- earlier generations that did.
--
-- KEYS[1]: the account's tag
-- minute: since 1970
-- ended_by: ms
-- max: how many entries of the list it examines at most
-- Returns {how many requests it removed, 1 if more entries are to be examined, else 0}.
--
-- uses: clock, record, readable, ended, erasing
local minute, ended_by, max = unpack(ARGV)
ended_by, max = tonumber(ended_by), tonumber(max)
local ids = redis.call('LRANGE', ended_key(minute), 0, max - 1)
local examined, removed = 0, 0
for _, id in ipairs(ids) do
  local h, why = load_readable(id)
  local ended = h and ENDED[h.state]
  if ended and h.changed > ended_by and minute_of(h.changed) == minute then break end -- the others ended later
  examined = examined + 1
  if ended and h.changed <= ended_by then
    erase(id, h, false)
    removed = removed + 1
  elseif h then
    for generation = 1, h.gen - 1 do erase_earlier(id, generation, ended_by) end
  elseif why == 'newer' then
    list_ended(id, now) -- only its version can erase it
  end
end
redis.call('LTRIM', ended_key(minute), examined, -1)
if examined == #ids and #ids < max then
  if redis.call('EXISTS', ended_key(minute)) == 0 then redis.call('ZREM', ended_minutes_key(), minute) end
end
return { removed, examined == max and 1 or 0 }
