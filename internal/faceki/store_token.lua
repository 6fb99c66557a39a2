-- store_token ends a lease, and stores the result of the request: a token, a fault, or
-- neither.
--
-- KEYS[1]: as for claim_token
-- holder: the caller
-- kind: 'token' or 'fault'
-- value: the encrypted token, or the fault; '' for neither
-- lifetime: for how many ms it is valid
-- Returns 1, or 0 if another process has the lease by now.
--
-- uses: clock
local holder, kind, value, lifetime = unpack(ARGV)
local current = redis.call('HGET', KEYS[1], 'holder')
if current and current ~= holder then return 0 end
redis.call('HDEL', KEYS[1], 'holder', 'lease')
if value ~= '' then
  local ends = kind == 'token' and 'until' or 'retry'
  redis.call('HSET', KEYS[1], kind, value, ends, ms(now + lifetime))
  redis.call('PEXPIRE', KEYS[1], lifetime + 3600000)
end
return 1
