-- expired_requests finds requests whose own not_after has passed while they waited.
--
-- KEYS[1]: the account's tag
-- skip: how many deadlines to skip
-- max: the most deadlines to read
-- Returns {how many to skip next, or '' after the last page, id, record, ...}. A request
-- in `calling` is left out: its fault ends it. Ended requests leave the set.
--
-- uses: keys, clock, readable
local skip, max = unpack(ARGV)
local due = redis.call('ZRANGEBYSCORE', deadlines_key(), '-inf', ms(now), 'LIMIT', skip, max)
local out, kept = { '' }, tonumber(skip)
for _, id in ipairs(due) do
  local raw = redis.call('GET', record_key(id))
  local h, why = nil, nil
  if raw then h, why = read_header(raw) end
  if not why and not (h and h.deadline == 'd') then
    redis.call('ZREM', deadlines_key(), id)
  elseif not h or h.state == 'c' then
    kept = kept + 1
  else
    out[#out + 1], out[#out + 2] = id, raw
  end
end
if #due == tonumber(max) then out[1] = ms(kept) end
return out
