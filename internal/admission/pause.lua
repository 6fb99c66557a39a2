-- pause closes the gate until an operator resumes.
--
-- KEYS[1]: the account's tag
-- by: who pauses, for people
-- why: the reason, for people; '' if none was given
-- Returns 'ok'.
--
-- uses: clock, gate_state, gate_begin, rate, gate
local by, why = unpack(ARGV)
read_gate(COMMON_FIELDS)
if gate.reason ~= 'paused' then
  settle_bucket()
  set('under', gate.reason)
  clear_probe()
  change_state('closed', 'paused', now)
end
store_gate()
redis.call('HSET', GATE, 'paused_by', by, 'paused_why', why)
return 'ok'
