-- restore puts records back that a journal kept, where Redis did not.
-- ARGV: id, raw record, ... Ids that are known already are passed over.
-- Returns how many were put back.
local restored = 0
for i = 1, #ARGV, 2 do
  if redis.call('SETNX', record_key(ARGV[i]), ARGV[i + 1]) == 1 then
    local h = parse(ARGV[i + 1])
    redis.call('HINCRBY', batch_key(h.batch), NAME[h.state], 1)
    restored = restored + 1
  end
end
return restored
