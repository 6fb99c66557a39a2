-- pause closes the gate until an operator resumes.
--
-- KEYS[1]: the account's tag. Returns 'ok'.
--
-- uses: clock, gate_state, gate_begin, rate, gate
read_gate(COMMON_FIELDS)
if gate.reason ~= 'paused' then
  settle_bucket()
  set('under', gate.reason)
  clear_probe()
  change_state('closed', 'paused', now)
end
store_gate()
return 'ok'
