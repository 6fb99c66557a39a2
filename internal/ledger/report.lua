-- report tells the gate of what was no call: a connection or a token that could
-- not be had.
-- ARGV[1] sign, [2] id, [3] process, [4] its credentials, [5] ms of Retry-After
report(ARGV[1], ARGV[2], ARGV[3], ARGV[4], now, ARGV[5], 0)
return 'ok'
