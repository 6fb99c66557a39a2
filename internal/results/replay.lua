-- replay publishes events of ends again, of requests whose record is kept.
--
-- KEYS[1]: the account's tag
-- rows: id, generation, run, event_id, type, at (RFC 3339), data
-- Returns the number of events that it published.
--
-- uses: keys, record, mentions
local published = 0
for i = 1, #ARGV, 7 do
  local id, generation, run, event_id, type, at, data = unpack(ARGV, i, i + 6)
  generation, run = tonumber(generation), tonumber(run)
  local h = load_header(id)
  local kept = h and h.gen == generation and (h.run > run or h.run == run and ENDED[h.state])
    or h and h.gen > generation and redis.call('EXISTS', old_key(generation, id)) == 1
  if kept then
    local entry = redis.call('XADD', tag .. ':results', '*', 'id', event_id, 'type', type, 'timestamp', at,
      'application_id', id, 'data', data, 'replay', '1')
    mention_event(id, entry)
    published = published + 1
  end
end
return published
