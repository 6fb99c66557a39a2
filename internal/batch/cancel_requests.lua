-- cancel_requests ends requests of a cancelled batch. A request in `calling` is cancelled
-- when its call has ended without a link.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- at (RFC 3339), head: of the events, see outcome.lua
-- reason: as a JSON fragment that begins with a comma
-- rows: id, generation, run, event_id, id_json, tail
-- Returns {how many ended now, id ...} of those whose run is another one by now, which the
-- caller reads again.
--
-- uses: keys, record, readable, counters, outcome
local batch, at, head, reason = unpack(ARGV, 1, 4)
batch = tonumber(batch)
local ended, out, counts = 0, { 0 }, {}
for i = 5, #ARGV, 6 do
  local id, generation, run, event_id, id_json, tail = unpack(ARGV, i, i + 5)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  local h = raw and read_header(raw)
  if not h or h.batch ~= batch or ENDED[h.state] then -- nothing to do
  elseif h.gen ~= tonumber(generation) or h.run ~= tonumber(run) then
    out[#out + 1] = id
  elseif h.state == 'c' then
    h.flag = 'x'
    save_header(key, h)
  else
    conclude(id, key, raw, h, 'X', {
      event = event_id, at = at, id_json = id_json, head = head, tail = tail, middle = reason,
    }, reason, counts)
    ended = ended + 1
  end
end
for state, n in pairs(counts) do count(batch, state, n) end
out[1] = ended
return out
