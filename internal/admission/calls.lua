-- The calls in flight: a sorted set of "process id nonce", by when the attempt began (ms).
-- The calls of a dead process stay until recovery removes them. The nonce is that of the
-- admission request that got the grant; earlier versions wrote none.
--
-- uses: keys, clock
local CALLS = tag .. ':calls'

local function call_name(process, id, nonce) return process .. ' ' .. id .. ' ' .. nonce end

-- is_granted reports whether the request's call in flight was granted to the admission
-- request with this nonce. Only the process that made the nonce knows whether it sent the
-- call. A comparison of times is not enough, because Redis may have lost its last writes.
local function is_granted(process, id, nonce)
  return nonce ~= '' and redis.call('ZSCORE', CALLS, call_name(process, id, nonce)) ~= false
end

-- remove_call removes a call that ended. nonce is '' if another process ends it: then
-- the call is found by when it began.
local function remove_call(process, id, nonce, began)
  if nonce ~= '' then
    redis.call('ZREM', CALLS, call_name(process, id, nonce))
    return
  end
  local prefix = call_name(process, id, '')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', CALLS, ms(began), ms(began))) do
    if string.sub(member .. ' ', 1, #prefix) == prefix then redis.call('ZREM', CALLS, member) end
  end
end
