-- The rate in force.
--
-- uses: gate_state
local function rate_in_force()
  local rate = redis.call('HMGET', GATE, 'n', 'per')
  return tonumber(rate[1] or 5), tonumber(rate[2] or 1000)
end
