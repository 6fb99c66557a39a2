-- refresh asks for the next generation of requests whose link has expired, as
-- their batch's own and bulk.
--
-- ARGV[1] not_after in ms, or ''   ARGV[2] the batch's number
-- then for each request: id, generation, run as the caller saw them, content
-- Returns the ids of those that are refreshed now.
--
-- uses: keys, clock, record, readable, counters, feeding
local due, batch = ARGV[1], tonumber(ARGV[2])
local out = {}
for i = 3, #ARGV, 4 do
  local id = ARGV[i]
  local h = load_readable(id)
  if h and h.state == 'C' and h.batch == batch and h.gen == tonumber(ARGV[i + 1]) and h.run == tonumber(ARGV[i + 2]) and h.gen < 999 then
    redis.call('RENAME', record_key(id), old_key(h.gen, id))
    move(h, 'w')
    h.lane, h.flag, h.deadline = 'b', '-', 'n'
    h.gen, h.run, h.turn, h.attempts, h.charged, h.dups, h.seen, h.holder = h.gen + 1, 1, 0, 0, 0, 0, 0, 0
    h.accepted = now
    if due ~= '' then
      h.deadline = 'd'
      redis.call('ZADD', deadlines_key(), due, id)
    end
    write(record_key(id), h, ARGV[i + 3], '', '', '')
    requeue(batch, id)
    out[#out + 1] = id
  end
end
return out
