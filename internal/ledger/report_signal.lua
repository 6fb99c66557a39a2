-- report_signal gives the gate a signal that no call caused: a connection or a token that
-- was not available.
--
-- KEYS[1]: the account's tag
-- signal, id, process
-- credential: the fingerprint of the process' credentials
-- retry_after: ms; 0 if FaceKi named none
-- message: the fault's
-- Returns 1 if the gate is closed now, at least for these credentials, else 0.
--
-- uses: clock, gate_state, gate_closed, signals
local signal, id, process, credential, retry_after, message = unpack(ARGV)
report_signal(signal, id, process, nil, credential, now, retry_after, 0, message)
store_gate()
return gate_is_closed(credential) and 1 or 0
