-- leave takes a process off the list of workers, and gives its leadership up.
-- ARGV[1] process
--
-- uses: keys
redis.call('ZREM', tag .. ':workers', ARGV[1])
redis.call('DEL', tag .. ':handlers:' .. ARGV[1])
if redis.call('GET', tag .. ':leader') == ARGV[1] then redis.call('DEL', tag .. ':leader') end
return 'ok'
