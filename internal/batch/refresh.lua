-- refresh begins the next generation of requests whose link has expired, in the bulk lane
-- and in their batch.
--
-- KEYS[1]: the account's tag
-- not_after: ms, or ''
-- batch: its number
-- rows: id, generation, run (as the caller read them), content
-- Returns the ids of those that are refreshed now.
--
-- uses: keys, clock, record, readable, counters, feeding
local not_after, batch = unpack(ARGV, 1, 2)
batch = tonumber(batch)
local out = {}
for i = 3, #ARGV, 4 do
  local id, generation, run, content = unpack(ARGV, i, i + 3)
  local h = load_readable(id)
  if h and h.state == 'C' and h.batch == batch and h.gen == tonumber(generation) and h.run == tonumber(run) and h.gen < 999 then
    redis.call('RENAME', record_key(id), old_key(h.gen, id))
    move(h, 'w')
    h.version, h.lane, h.flag, h.deadline = '2', 'b', '-', 'n'
    h.gen, h.run, h.turn, h.attempts, h.charged, h.dups, h.seen, h.holder = h.gen + 1, 1, 0, 0, 0, 0, 0, 0
    h.accepted = now
    if not_after ~= '' then
      h.deadline = 'd'
      redis.call('ZADD', deadlines_key(), not_after, id)
    end
    write_record(record_key(id), h, content, '', '', '')
    requeue(batch, id)
    out[#out + 1] = id
  end
end
return out
