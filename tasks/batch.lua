-- batch opens a batch, and makes it where its name is new.
-- ARGV[1] name   ARGV[2] its options as JSON   ARGV[3] its not_after in ms, or ''
-- ARGV[4] the id of the API key that opens it, or ''
-- Options and maker are fixed when it is made. Returns {number, options, now in ms,
-- id of the API key that made it or ''}.
local fresh = redis.call('HEXISTS', tag .. ':batches', ARGV[1]) == 0
local number = batch_number(ARGV[1])
if fresh and ARGV[2] ~= '{}' then redis.call('HSET', batch_key(number), 'options', ARGV[2]) end
if fresh and ARGV[3] ~= '' then
  redis.call('HSET', batch_key(number), 'not_after', ARGV[3])
  redis.call('ZADD', batch_deadlines_key(), ARGV[3], number)
end
if fresh and ARGV[4] ~= '' then redis.call('HSET', batch_key(number), 'by', ARGV[4]) end
local made = redis.call('HMGET', batch_key(number), 'options', 'by')
redis.call('HSET', batch_key(number), 'written', ms(now))
return { ms(number), made[1] or '', ms(now), made[2] or '' }
