-- reset_rate puts the workers' rate in force again.
--
-- KEYS[1]: the account's tag. Returns the rate before: {n, per, burst}.
--
-- uses: gate_state, rate_settings
local set_by_worker = redis.call('HMGET', GATE, 'set:n', 'set:per')
redis.call('HDEL', GATE, 'over:n', 'over:per')
return change_rate(tonumber(set_by_worker[1] or 5), tonumber(set_by_worker[2] or 1000))
