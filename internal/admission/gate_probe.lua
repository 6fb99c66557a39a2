-- Probes of a closed gate.
--
-- uses: clock, gate_state, rate

-- probe_gate chooses the process that probes a closed gate, and admits its one call.
local function probe_gate(lane, process, id, connected)
  local chosen = gate.prober == process and gate.sent == 0
  local busy = gate.prober ~= '' and gate.by > now
  if lane == 'interactive' then set('asked', now) end
  if not (chosen and connected) then
    if chosen and busy and gate.probe == id then return 'connect', 0, gate.reason end
    if busy then return 'wait', MAX_WAIT, gate.reason end
    if now < gate.next then return 'wait', math.min(MAX_WAIT, gate.next - now), gate.reason end
    if lane == 'bulk' and now - gate.asked < MAX_WAIT + WAITER_TTL then return 'wait', MAX_WAIT, gate.reason end
  end
  settle_bucket()
  local times = held_grants()
  local s, i = earliest_grant(1, times, 0)
  if s - us > max_ahead() then
    return 'wait', math.min(MAX_WAIT, math.max(1, (s - us - max_ahead()) / 1000)), gate.reason
  end
  set('prober', process) set('probe', id)
  if chosen and connected then
    set('sent', 1) set('by', now + ANSWER_TIMEOUT)
    return 'probe', take_token(s, i, times), gate.reason
  end
  set('sent', 0) set('by', now + CONNECT_TIMEOUT)
  return 'connect', 0, gate.reason
end
