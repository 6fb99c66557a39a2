-- report tells the gate of what was no call: a connection or a token that could
-- not be had.
-- ARGV[1] sign, [2] id, [3] process, [4] its credentials, [5] ms of Retry-After, [6] the fault's message
-- Returns 1 where the gate is closed now, for these credentials at least.
--
-- uses: clock, gate_state, gate_closed, signals
report(ARGV[1], ARGV[2], ARGV[3], nil, ARGV[4], now, ARGV[5], 0, ARGV[6])
store_gate()
return is_closed(ARGV[4]) and 1 or 0
