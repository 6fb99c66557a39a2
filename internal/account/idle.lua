-- idle reports whether the account has no work for a worker.
--
-- KEYS[1]: the account's tag
-- group: the consumer group of the dispatcher; '' if callbacks are off
-- Returns 1 if it has none, else 0.
--
-- uses: keys, clock, batch_deadlines
local group = unpack(ARGV)
if redis.call('EXISTS', queued_key('i'), queued_key('b'), tag .. ':running', tag .. ':calls', tag .. ':cancelling',
  tag .. ':actions:running', tag .. ':newer') > 0 then return 0 end
if redis.call('XLEN', tag .. ':requests') > 0 then return 0 end
for _, key in ipairs({ deadlines_key(), batch_deadlines_key() }) do
  if redis.call('ZCOUNT', key, '-inf', ms(now)) > 0 then return 0 end
end
if group == '' then return 1 end
local results = tag .. ':results'
if redis.call('EXISTS', tag .. ':pending') > 0 then return 0 end
if redis.call('XLEN', results) == 0 then return 1 end

-- An event has not been read if it comes after the one that was delivered last to the group.
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', results)) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  if info.name == group then
    local unread = redis.call('XRANGE', results, '(' .. info['last-delivered-id'], '+', 'COUNT', 1)
    return (info.pending == 0 and #unread == 0) and 1 or 0
  end
end
return 0
