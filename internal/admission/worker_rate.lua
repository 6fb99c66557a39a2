-- The rate of a worker that joins.
--
-- uses: clock, gate_state, rate_settings

-- set_rate sets the rate, unless an operator has overridden it. It returns what a worker
-- set before; zeros if none did.
local function set_rate(n, per, burst)
  n, per, burst = tonumber(n), tonumber(per), tonumber(burst)
  local before = redis.call('HMGET', GATE, 'set:n', 'set:per', 'set:burst')
  redis.call('HSET', GATE, 'set:n', ms(n), 'set:per', ms(per), 'set:burst', ms(burst))
  local override = redis.call('HMGET', GATE, 'over:n', 'over:per', 'over:burst')
  if override[1] then n, per, burst = tonumber(override[1]), tonumber(override[2]), tonumber(override[3] or burst) end
  local old = change_rate(n, per, burst)
  return { before[1] or '0', before[2] or '0', before[1] and (before[3] or old[3]) or '0' }
end
