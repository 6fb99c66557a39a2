-- restore writes records that a journal kept and Redis lost. Generations that Redis has
-- are left as they are. A waiting request is fed again; a queued one is overdue at once,
-- so that recovery enqueues its task.
--
-- KEYS[1]: the account's tag
-- batch: its name
-- rows: id, raw (the record), not_after (ms, the request's own, or '')
-- Returns the number of records that it wrote.
--
-- uses: keys, record, counters, operator_lists, feeding, batch_number, duplicates, ended
local batch = unpack(ARGV, 1, 1)
local number, restored = batch_number(batch), 0

local function count_duplicates(h)
  if h.dups > 0 then count_possible_duplicates(number, h.dups) end
end

local function restore(id, h, raw, not_after)
  local latest = load_header(id)
  if latest and latest.gen == h.gen then return end
  restored = restored + 1
  if ENDED[h.state] then list_ended(id, h.changed) end
  if latest and latest.gen > h.gen then
    if redis.call('SETNX', old_key(h.gen, id), raw) == 1 then count_duplicates(h) end
    return
  end
  if latest then
    unlist_for_operator(latest, id)
    redis.call('RENAME', record_key(id), old_key(latest.gen, id))
    count(number, latest.state, -1)
  end
  redis.call('SET', record_key(id), raw)
  count(number, h.state, 1)
  count_duplicates(h)
  list_for_operator(h, id)
  if h.deadline == 'd' then redis.call('ZADD', deadlines_key(), not_after, id) end
  if h.state == 'w' then requeue(number, id) end
  if h.state == 'q' then redis.call('ZADD', queued_key(h.lane), 0, id) end
end

for i = 2, #ARGV, 3 do
  local id, raw, not_after = unpack(ARGV, i, i + 2)
  local h = parse_header(raw)
  h.batch = number
  restore(id, h, format_header(h) .. string.sub(raw, h.length + 1), not_after)
end
return restored
