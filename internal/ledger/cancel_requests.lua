-- calloff ends requests of a cancelled batch, or remembers that a called one is
-- to end as soon as its call has.
--
-- ARGV[1] the batch's number   ARGV[2] time   ARGV[3] head   ARGV[4] reason as JSON
-- then for each request: id, generation, run, event id, id as JSON, tail
-- Returns {how many ended now, id ...} of those that are another run by now, which
-- the caller reads again.
--
-- uses: keys, record, readable, counters, outcome
local batch, ended = tonumber(ARGV[1]), 0
local out, counts = { 0 }, {}
for i = 5, #ARGV, 6 do
  local id = ARGV[i]
  local key = record_key(id)
  local raw = redis.call('GET', key)
  local h = raw and not unreadable(raw) and parse(raw)
  if not h or h.batch ~= batch or ENDED[h.state] then -- nothing to do
  elseif h.gen ~= tonumber(ARGV[i + 1]) or h.run ~= tonumber(ARGV[i + 2]) then
    out[#out + 1] = id
  elseif h.state == 'c' then
    h.flag = 'x'
    save(key, h)
  else
    conclude(id, key, raw, h, 'X', {
      event = ARGV[i + 3], at = ARGV[2], id_json = ARGV[i + 4], head = ARGV[3], tail = ARGV[i + 5], middle = ARGV[4],
    }, ARGV[4], counts)
    ended = ended + 1
  end
end
for state, n in pairs(counts) do count(batch, state, n) end
out[1] = ended
return out
