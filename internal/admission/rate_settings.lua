-- Changes of the rate. n calls are allowed in per ms, with a burst.
--
-- uses: clock, gate_state, gate_begin, rate

-- change_rate refills the bucket at the old rate until now, and returns the old rate. Waiting
-- processes lose their places; each gets a new one when it asks again.
local function change_rate(n, per, burst)
  read_gate(COMMON_FIELDS)
  settle_bucket()
  local old = { ms(gate.n), ms(gate.per), ms(gate.burst) }
  set('n', n) set('per', per) set('burst', burst or gate.burst)
  dirty.n, dirty.per, dirty.burst = true, true, true -- stored also if they equal the defaults
  set('level', math.min(gate.level, gate.burst))
  redis.call('DEL', waiters_key('interactive'), waiters_key('bulk'))
  set('line:interactive', 0) set('line:bulk', 0)
  store_gate()
  return old
end
