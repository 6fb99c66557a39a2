-- resume ends a pause. If the gate is closed for another reason, or credentials are
-- refused, the next call probes at once, and the pauses between probes start short again.
--
-- KEYS[1]: the account's tag. Returns 'ok'.
--
-- uses: clock, gate_state, gate_begin, gate, refusal
read_gate(COMMON_FIELDS)
if gate.reason == 'paused' then
  local under = gate.under
  set('under', '')
  change_state(under == '' and 'open' or 'closed', under, now)
end
if gate.reason ~= '' then
  clear_probe()
  set('next', now)
  set('pause', FIRST_PAUSE[gate.reason] / 2) -- it doubles after the next probe
end
for credential in string.gmatch(gate.refused, '%S+') do
  local r = refusal(credential)
  if r then
    r.prober, r.id, r.by = '', '', 0
    r.next, r.pause = now, REFUSED_PAUSE.first / 2
    store_refusal(credential, r)
  end
end
store_gate()
redis.call('HDEL', GATE, 'paused_by', 'paused_why')
return 'ok'
