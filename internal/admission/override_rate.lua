-- override_rate sets an operator's rate, which is in force until reset_rate.
--
-- KEYS[1]: the account's tag
-- n, per: n calls are allowed in per ms
-- burst: 0 for that of the workers
-- Returns the rate before: {n, per, burst}.
--
-- uses: clock, gate_state, rate_settings
local n, per, burst = unpack(ARGV)
n, per, burst = tonumber(n), tonumber(per), tonumber(burst)
-- Workers of earlier versions did not store their burst; it is in force then.
redis.call('HSETNX', GATE, 'set:burst', redis.call('HGET', GATE, 'burst') or ms(DEFAULT.burst))
redis.call('HSET', GATE, 'over:n', ms(n), 'over:per', ms(per))
if burst > 0 then
  redis.call('HSET', GATE, 'over:burst', ms(burst))
else
  redis.call('HDEL', GATE, 'over:burst')
  burst = tonumber(redis.call('HGET', GATE, 'set:burst'))
end
return change_rate(n, per, burst)
