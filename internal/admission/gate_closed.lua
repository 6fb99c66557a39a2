-- Whether calls must wait for the gate.
--
-- uses: gate_state, gate_begin, refusal
local function is_closed(credential)
  begin(COMMON_FIELDS)
  return gate.state == 'closed' or refusal(credential) ~= nil
end
