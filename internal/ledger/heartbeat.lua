-- beat says that a worker process lives.
-- ARGV[1] process   ARGV[2] ms after which a dead one is forgotten
-- ARGV[3] ms for which a list of handlers matters: who is silent for longer is dead
-- ARGV[4] the id of the ledger that it joined
-- ARGV[5] ... the turns that it has handlers for
-- Returns the time in ms, or 0 where Redis no longer has that ledger.
--
-- uses: keys, clock
if redis.call('HGET', account_key(), 'id') ~= ARGV[4] then return 0 end
local workers, handlers = tag .. ':workers', tag .. ':handlers:' .. ARGV[1]
redis.call('ZADD', workers, ms(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', workers, 1, ms(now - ARGV[2]))
redis.call('DEL', handlers)
for i = 5, #ARGV, 1000 do
  redis.call('SADD', handlers, unpack(ARGV, i, math.min(i + 999, #ARGV)))
end
if #ARGV > 4 then redis.call('PEXPIRE', handlers, ARGV[3]) end
return now
