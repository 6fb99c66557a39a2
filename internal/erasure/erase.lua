-- erase removes ended requests, see erasing.lua.
--
-- KEYS[1]: the account's tag
-- force: '1' to remove also the events of the requests from the results stream, their entries
--   of the audit trail, and a record whose header is broken, which no counter counts
-- ended_by: only requests that ended by this time, ms
-- rows: id
-- Returns six values for each id: the state that it had when it was removed, or '-' if
-- there is no record, '=' and its state if it has not ended, or not by then, or 'newer'
-- or 'poison' if its record cannot be read; how many generations were removed; from how
-- many rows and lists the id was removed; when it came to its state, ms; how many events
-- were removed; how many entries of the audit trail.
--
-- uses: keys, clock, record, readable, erasing, audited
local force, ended_by = unpack(ARGV, 1, 2)

with_events = force == '1'
local out = {}
for i = 3, #ARGV do
  local id = unpack(ARGV, i, i)
  local h, why = load_readable(id)
  local state, generations, rows, at, removed = why or '-', 0, 0, '0', 0
  if why == 'poison' and force == '1' then
    generations = redis.call('DEL', record_key(id))
    rows, removed = erase_mentions(id, 0, 0)
    erase_deliveries(id)
  elseif h and ENDED[h.state] and h.changed <= tonumber(ended_by) then
    state = NAME[h.state]
    generations, rows, removed = erase(id, h, true)
  elseif not h and not why then -- an earlier erasure may have left something
    rows, removed = erase_mentions(id, 0, 0)
  elseif h then
    state, at = '=' .. NAME[h.state], ms(h.changed)
  end
  local entries = 0
  if force == '1' and redis.call('EXISTS', record_key(id)) == 0 then entries = erase_audited(id) end
  for _, value in ipairs({ state, generations, rows, at, removed, entries }) do out[#out + 1] = value end
end
return out
