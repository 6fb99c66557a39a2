-- leave deregisters a worker process, and ends its leadership.
--
-- KEYS[1]: the account's tag
-- process
-- Returns 'ok'.
--
-- uses: keys, bundlers
local process = unpack(ARGV)
redis.call('ZREM', tag .. ':workers', process)
redis.call('ZREM', bundlers_key(), process)
redis.call('DEL', tag .. ':handlers:' .. process)
if redis.call('GET', tag .. ':leader') == process then redis.call('DEL', tag .. ':leader') end
return 'ok'
