-- take_action takes or renews the lease of an action that is running, or that was aborted
-- and has a page to count.
--
-- KEYS[1]: the account's tag
-- id: of the action
-- runner: who takes it
-- lease: ms
-- Returns the fields of the action and their values; nothing if there is nothing to do or
-- another runner has it.
--
-- uses: clock, action
local id, runner, lease = unpack(ARGV)
local key = action_key(id)
local state = redis.call('HGET', key, 'state')
if state ~= 'running' and not (state == 'aborted' and uncounted(id)) then
  redis.call('ZREM', running_actions_key(), id)
  return {}
end
local known = redis.call('HMGET', key, 'runner', 'until')
local left = (tonumber(known[2]) or 0) - now
-- A lease that lasts longer than possible was stored before the clock went back.
if known[1] and known[1] ~= runner and left > 0 and left <= tonumber(lease) then return {} end
redis.call('HSET', key, 'runner', runner, 'until', ms(now + lease))
return redis.call('HGETALL', key)
