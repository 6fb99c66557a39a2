-- override_rate sets an operator's rate, which is in force until reset_rate.
--
-- KEYS[1]: the account's tag
-- n, per: n calls are allowed in per ms
-- Returns the rate before: {n, per, burst}.
--
-- uses: clock, gate_state, rate_settings
local n, per = unpack(ARGV)
n, per = tonumber(n), tonumber(per)
redis.call('HSET', GATE, 'over:n', ms(n), 'over:per', ms(per))
return change_rate(n, per)
