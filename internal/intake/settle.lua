-- settle takes entries off the intake stream that are dealt with, and puts those
-- that could not be accepted among the rejects, once, however often this is done.
--
-- KEYS[1] the requests   KEYS[2] the rejects   ARGV[1] group   ARGV[2] how many
-- rejects are kept, about
-- then for each entry: id, reason or '' for what was accepted, message, original
-- Returns how many were accepted and rejected that nobody had settled before.
local accepted, rejected = 0, 0
for i = 3, #ARGV, 4 do
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
return { accepted, rejected }
