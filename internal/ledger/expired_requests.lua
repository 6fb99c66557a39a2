-- late gives the requests whose own not_after has passed while they waited.
--
-- ARGV[1] how many deadlines to pass over, [2] to look at
-- Returns {how many are passed over next, or '' where there are no more, id, raw
-- record, ...}. What is being called is ended by its fault, if at all; ends leave
-- the set.
--
-- uses: keys, clock, record, readable
local due = redis.call('ZRANGEBYSCORE', deadlines_key(), '-inf', ms(now), 'LIMIT', ARGV[1], ARGV[2])
local out, kept = { '' }, tonumber(ARGV[1])
for _, id in ipairs(due) do
  local raw = redis.call('GET', record_key(id))
  local why = raw and unreadable(raw)
  local h = raw and not why and parse(raw)
  if not why and not (h and h.deadline == 'd') then
    redis.call('ZREM', deadlines_key(), id)
  elseif not h or h.state == 'c' then
    kept = kept + 1
  else
    out[#out + 1], out[#out + 2] = id, raw
  end
end
if #due == tonumber(ARGV[2]) then out[1] = ms(kept) end
return out
