-- settle takes entries off the intake stream that are dealt with, and puts those
-- that could not be accepted among the rejects, once, however often this is done.
--
-- KEYS[1] the requests   KEYS[2] the rejects   ARGV[1] group   ARGV[2] how many
-- rejects are kept, about   ARGV[3] in how many bytes, about: the latest of them
-- then for each entry: id, reason or '' for what was accepted, message, original
-- Returns how many were accepted and rejected that nobody had settled before.
local accepted, rejected = 0, 0
for i = 4, #ARGV, 4 do
  local id, reason = ARGV[i], ARGV[i + 1]
  redis.call('XACK', KEYS[1], ARGV[1], id)
  if redis.call('XDEL', KEYS[1], id) == 0 then -- it was settled
  elseif reason == '' then accepted = accepted + 1
  else
    rejected = rejected + 1
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*',
      'reason', reason, 'message', ARGV[i + 2], 'entry', id, 'original', ARGV[i + 3])
  end
end
local bytes, budget = rejected > 0 and redis.call('MEMORY', 'USAGE', KEYS[2]) or 0, tonumber(ARGV[3])
if bytes > budget then
  -- Not all at once, where an older version kept more.
  redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', math.floor(redis.call('XLEN', KEYS[2]) * budget / bytes), 'LIMIT', 1000)
end
return { accepted, rejected }
