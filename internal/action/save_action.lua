-- save_action stores the progress of an action in one step, and renews the lease.
--
-- KEYS[1]: the account's tag
-- id: of the action
-- runner: who has the lease
-- lease: ms; 0 gives it up
-- cursor: the last entry that is done with
-- page: the entries that are about to be changed, as JSON, or ''
-- done, changed, gone, unreadable: how many more entries were changed, or were skipped
--   because they had changed, had left the list, or cannot be decoded
-- state, message: the state in which the action ends, or '', and why
-- Returns its state; 'lost' if another runner has taken the action.
--
-- uses: clock, action
local id, runner, lease, cursor, page, done, changed, gone, unreadable, state, message = unpack(ARGV)
local key = action_key(id)
if redis.call('HGET', key, 'runner') ~= runner then return 'lost' end
redis.call('HINCRBY', key, 'done', done)
redis.call('HINCRBY', key, 'changed', changed)
redis.call('HINCRBY', key, 'gone', gone)
redis.call('HINCRBY', key, 'unreadable', unreadable)
local known = redis.call('HGET', key, 'state')
if known == 'running' and state ~= '' then
  end_action(id, state, message)
  leave_action(id)
  return state
end
if known ~= 'running' and page == '' then
  leave_action(id)
elseif known == 'running' then
  redis.call('HSET', key, 'cursor', cursor, 'page', page, 'until', ms(now + lease))
else -- the page of an aborted action is still to be counted
  redis.call('HSET', key, 'until', ms(now + lease))
end
return known
