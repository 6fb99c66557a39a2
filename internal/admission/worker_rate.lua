-- The rate of a worker that joins.
--
-- uses: clock, gate_state, rate_settings

-- set_rate sets the rate, unless an operator has overridden it. It returns what a worker
-- set before; zeros if none did.
local function set_rate(n, per, burst)
  n, per, burst = tonumber(n), tonumber(per), tonumber(burst)
  local before = redis.call('HMGET', GATE, 'set:n', 'set:per')
  redis.call('HSET', GATE, 'set:n', ms(n), 'set:per', ms(per))
  local override = redis.call('HMGET', GATE, 'over:n', 'over:per')
  if override[1] then n, per = tonumber(override[1]), tonumber(override[2]) end
  local old = change_rate(n, per, burst)
  return { before[1] or '0', before[2] or '0', before[1] and old[3] or '0' }
end
