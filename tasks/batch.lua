-- batch gives a batch's number, and makes the batch where its name is new.
-- ARGV[1] name. Returns the number, from 1.
local names = tag .. ':batches'
local number = redis.call('HGET', names, ARGV[1])
if not number then
  number = redis.call('HINCRBY', account_key(), 'batches', 1)
  redis.call('HSET', names, ARGV[1], number)
  redis.call('HSET', batch_key(number), 'name', ARGV[1], 'created_at', ms(now), 'cursor', 0)
end
return tonumber(number)
