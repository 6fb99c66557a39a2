-- Watching the gate for calls that hang. If all calls of all processes hang, no process
-- reports an outcome. So one process of the fleet watches the gate regularly.
--
-- uses: keys, gate_state, gate_begin, gate, gate_silence

local WATCH_FIELDS = { 'state', 'reason', 'looked', 'answered', 'usual', 'n', 'per' }

-- watch returns the rate in force, n and per, and the changes of the gate that no process
-- has logged yet.
local function watch()
  read_gate(WATCH_FIELDS)
  observe()
  if gate.state ~= 'closed' and calls_hang() then close_for('outage', false) end
  store_gate()
  return gate.n, gate.per, redis.call('LPOP', tag .. ':unlogged', MAX_UNLOGGED) or {}
end
