-- Whether calls must wait for the gate.
--
-- uses: gate_state, gate_begin, refusal
local function gate_is_closed(credential)
  read_gate(COMMON_FIELDS)
  return gate.state == 'closed' or refusal(credential) ~= nil
end
