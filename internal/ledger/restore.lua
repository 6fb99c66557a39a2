-- restore puts records back that a journal kept, where Redis did not.
-- ARGV[1] the batch's name, then id, raw record, its own not_after in ms or '', ...
-- Generations that are known already are passed over. What waits is fed again,
-- what is queued is overdue. Returns how many were put back.
--
-- uses: keys, record, counters, operator_lists, feeding, batch_number, duplicates
local batch, restored = batch_number(ARGV[1]), 0

local function doubts(h)
  if h.dups > 0 then count_possible_duplicates(batch, h.dups) end
end

local function put(id, h, raw, due)
  local latest = load(id)
  if latest and latest.gen == h.gen then return end
  restored = restored + 1
  if latest and latest.gen > h.gen then
    if redis.call('SETNX', old_key(h.gen, id), raw) == 1 then doubts(h) end
    return
  end
  if latest then
    unlist_for_operator(latest, id)
    redis.call('RENAME', record_key(id), old_key(latest.gen, id))
    count(batch, latest.state, -1)
  end
  redis.call('SET', record_key(id), raw)
  count(batch, h.state, 1)
  doubts(h)
  list_for_operator(h, id)
  if h.deadline == 'd' then redis.call('ZADD', deadlines_key(), due, id) end
  if h.state == 'w' then requeue(batch, id) end
  if h.state == 'q' then redis.call('ZADD', queued_key(h.lane), 0, id) end
end

for i = 2, #ARGV, 3 do
  local h = parse(ARGV[i + 1])
  h.batch = batch
  put(ARGV[i], h, header(h) .. string.sub(ARGV[i + 1], HEADER + 1), ARGV[i + 2])
end
return restored
