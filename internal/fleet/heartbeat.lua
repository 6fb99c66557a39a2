-- heartbeat records that a worker process is alive.
--
-- KEYS[1]: the account's tag
-- process
-- forget_after: the ms of silence after which a dead process is forgotten
-- handlers_ttl: the ms for which the turns matter; a process that is silent for longer
--   counts as dead
-- ledger_id: of the ledger that the process joined
-- rows: turn, for which the process has a handler
-- Returns the time in ms, or 0 if Redis does not have that ledger any more.
--
-- uses: keys, clock, bundlers
local process, forget_after, handlers_ttl, ledger_id = unpack(ARGV, 1, 4)
if redis.call('HGET', account_key(), 'id') ~= ledger_id then return 0 end
local workers, handlers = tag .. ':workers', tag .. ':handlers:' .. process
for _, key in ipairs({ workers, bundlers_key() }) do
  redis.call('ZADD', key, ms(now), process)
  redis.call('ZREMRANGEBYSCORE', key, 1, ms(now - forget_after))
end
redis.call('DEL', handlers)
local turns = {}
for i = 5, #ARGV do
  local turn = unpack(ARGV, i, i)
  turns[#turns + 1] = turn
end
for i = 1, #turns, 1000 do
  redis.call('SADD', handlers, unpack(turns, i, math.min(i + 999, #turns)))
end
if #turns > 0 then redis.call('PEXPIRE', handlers, handlers_ttl) end
return now
