-- open_batch opens a batch, and makes it if its name is new. Its options, not_after, maker
-- and trace are fixed when it is made.
--
-- KEYS[1]: the account's tag
-- name
-- options: as JSON
-- not_after: ms, or ''
-- api_key: the id of the API key that opens it, or ''
-- trace: the stored context of the span that opens it, or ''
-- Returns {number, options, now in ms, id of the API key that made it or ''}.
--
-- uses: keys, clock, batch_names, batch_number, batch_deadlines, batch_empty
local name, options, not_after, api_key, trace = unpack(ARGV)
local fresh = redis.call('HEXISTS', batch_names_key(), name) == 0
local number = batch_number(name)
if fresh and options ~= '{}' then redis.call('HSET', batch_key(number), 'options', options) end
if fresh and not_after ~= '' then
  redis.call('HSET', batch_key(number), 'not_after', not_after)
  redis.call('ZADD', batch_deadlines_key(), not_after, number)
end
if fresh and api_key ~= '' then redis.call('HSET', batch_key(number), 'by', api_key) end
if fresh and trace ~= '' then redis.call('HSET', batch_key(number), 'trace', trace) end
local made = redis.call('HMGET', batch_key(number), 'options', 'by')
redis.call('HSET', batch_key(number), 'written', ms(now))
if not fresh then may_be_empty(number, now + UNUSED_FOR) end
return { ms(number), made[1] or '', ms(now), made[2] or '' }
