-- replay publishes ends again, of requests that are still kept.
--
-- ARGV: for each end id, generation, run, event, type, time, data
-- Returns how many were published.
--
-- uses: keys, record
local published = 0
for i = 1, #ARGV, 7 do
  local id, gen, run = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local h = load(id)
  local kept = h and h.gen == gen and (h.run > run or h.run == run and ENDED[h.state])
    or h and h.gen > gen and redis.call('EXISTS', old_key(gen, id)) == 1
  if kept then
    redis.call('XADD', tag .. ':results', '*', 'id', ARGV[i + 3], 'type', ARGV[i + 4], 'timestamp', ARGV[i + 5],
      'application_id', id, 'data', ARGV[i + 6], 'replay', '1')
    published = published + 1
  end
end
return published
