-- reset_rate puts the workers' rate in force again.
--
-- KEYS[1]: the account's tag. Returns the rate before: {n, per, burst}.
--
-- uses: gate_state, rate_settings
local set_by_worker = redis.call('HMGET', GATE, 'set:n', 'set:per', 'set:burst')
redis.call('HDEL', GATE, 'over:n', 'over:per', 'over:burst')
local n, per = tonumber(set_by_worker[1] or DEFAULT.n), tonumber(set_by_worker[2] or DEFAULT.per)
return change_rate(n, per, set_by_worker[3] and tonumber(set_by_worker[3]))
