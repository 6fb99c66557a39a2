-- abort_action ends a running action. The entries that its runner changes at this moment
-- are counted nevertheless: by it, or by another one if it is dead.
--
-- KEYS[1]: the account's tag
-- id: of the action
-- Returns the state before; '' if there is no such action.
--
-- uses: action
local id = unpack(ARGV)
local key = action_key(id)
local state = redis.call('HGET', key, 'state')
if state ~= 'running' then return state or '' end
end_action(id, 'aborted', '')
if uncounted(id) then
  redis.call('HDEL', key, 'ids', 'cursor')
else
  leave_action(id)
end
return state
