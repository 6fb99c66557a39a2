-- Erasing one request, with its earlier generations, and every place that names it. Lists of
-- requeued requests that are too long to search here are noted in :unsearched, for
-- erase_requeued.lua.
--
-- uses: keys, record, readable, counters, operator_lists, batch_order, feeding, batch_cancel, delivery, mentions, ended, batch_empty

-- Whether the events of requests are removed from the results stream as well.
local with_events = false

-- erase_from_chunk removes an id from a chunk of a batch.
local function erase_from_chunk(batch, n, id)
  local order = order_key(batch)
  local text, removed = redis.call('HGET', order, n), 0
  if not text then return 0 end
  local needle = ' ' .. id .. '\n'
  local at = string.find(text, needle, 1, true)
  while at do
    text = string.sub(text, 1, at - 1) .. string.sub(text, at + #needle - 1)
    removed = removed + 1
    at = string.find(text, needle, at, true)
  end
  if removed > 0 then redis.call('HSET', order, n, text) end
  return removed
end

-- The most entries of lists of requeued requests that one script searches.
local MAX_SEARCHED, searched = 20000, 0

-- erase_requeued removes an id from the lists of the requeued requests of a batch. The
-- feeder skips the empty entries that it leaves.
local function erase_requeued(batch, id)
  local removed = 0
  for _, list in ipairs({ requeued_key(batch), cancelled_key(batch) }) do
    local n = redis.call('LLEN', list)
    searched = searched + n
    if n > 0 and searched > MAX_SEARCHED then
      redis.call('SADD', tag .. ':unsearched', batch)
    elseif n > 0 then
      for _, at in ipairs(redis.call('LPOS', list, id, 'COUNT', 0)) do
        redis.call('LSET', list, at, '')
        removed = removed + 1
      end
    end
  end
  return removed
end

-- erase_event removes an entry of the results stream, if it is an event of the request.
local function erase_event(entry, id)
  local found = redis.call('XRANGE', tag .. ':results', entry, entry)[1]
  if not found then return 0 end
  for i = 1, #found[2], 2 do
    if found[2][i] == 'application_id' and found[2][i + 1] == id then
      return redis.call('XDEL', tag .. ':results', entry)
    end
  end
  return 0
end

-- erase_events removes the events whose entries a text names.
local ENTRY = '"entry":"(%d+%-%d+)"' -- in a record
local function erase_events(text, pattern, id)
  local removed = 0
  if not with_events then return removed end
  for entry in string.gmatch(text, pattern) do removed = removed + erase_event(entry, id) end
  return removed
end

-- erase_mentions removes an id from where it is named apart from its record. batch and
-- row are the request's own; 0 for none.
local function erase_mentions(id, batch, row)
  local mentions = take_mentions(id)
  local rows, batches = 0, { [batch] = true }
  if row > 0 then rows = erase_from_chunk(batch, math.floor((row - 1) / 100), id) end
  for other, chunk in string.gmatch(mentions, ' r(%d+)%.(%d+)') do
    rows = rows + erase_from_chunk(other, chunk, id)
    may_be_empty(other)
    batches[tonumber(other)] = true
  end
  for minute in string.gmatch(mentions, ' m(%d+)') do unlist_ended(id, minute) end
  for other in pairs(batches) do rows = rows + erase_requeued(other, id) end
  return rows, erase_events(mentions, ' e(%d+%-%d+)', id)
end

-- The gate keeps the ids of the faults in a row, and of the last probes.
local function erase_from_gate(id)
  local fields = redis.call('HMGET', tag .. ':gate', 'probe', 'row', 'refused')
  if fields[1] == id then redis.call('HSET', tag .. ':gate', 'prober', '', 'probe', '', 'sent', 0, 'by', 0) end
  for credential in string.gmatch(fields[3] or '', '%S+') do
    local key = tag .. ':refused:' .. credential
    if redis.call('HGET', key, 'id') == id then redis.call('HSET', key, 'prober', '', 'id', '', 'by', 0) end
  end
  if not fields[2] or not string.find('\n' .. fields[2] .. '\n', '\n' .. id .. '\n', 1, true) then return end
  local others = {}
  for other in string.gmatch(fields[2], '[^\n]+') do
    if other ~= id then others[#others + 1] = other end
  end
  redis.call('HSET', tag .. ':gate', 'row', table.concat(others, '\n'))
end

-- erase_generations removes the earlier generations. It returns how many there were, and
-- how many events were removed.
local function erase_generations(id, gen)
  local generations, removed = 0, 0
  for g = 1, gen - 1 do
    local raw = redis.call('GET', old_key(g, id))
    if raw then
      local readable, h = pcall(parse_header, raw)
      if readable then unlist_ended(id, minute_of(h.changed)) end
      removed = removed + erase_events(raw, ENTRY, id)
      generations = generations + redis.call('DEL', old_key(g, id))
    end
  end
  return generations, removed
end

local function erase_deliveries(id)
  for _, event in ipairs(redis.call('LRANGE', deliveries_key(id), 0, -1)) do
    redis.call('DEL', delivery_key(event))
    redis.call('ZREM', undelivered_key(), event)
    redis.call('ZREM', pending_key(), event)
  end
  redis.call('DEL', deliveries_key(id))
end

-- erase removes an ended request. listed says that it is in the list of its minute.
local function erase(id, h, listed)
  if listed then unlist_ended(id, minute_of(h.changed)) end
  local raw = redis.call('GET', record_key(id))
  redis.call('DEL', record_key(id))
  local generations, earlier = erase_generations(id, h.gen)
  local rows, replayed = erase_mentions(id, h.batch, tonumber(batch_row(raw) or '0'))
  count(h.batch, h.state, -1)
  redis.call('HINCRBY', batch_key(h.batch), 'erased', 1)
  may_be_empty(h.batch)
  unlist_for_operator(h, id)
  redis.call('ZREM', queued_key('i'), id)
  redis.call('ZREM', queued_key('b'), id)
  redis.call('ZREM', deadlines_key(), id)
  redis.call('SREM', tag .. ':newer', id)
  erase_from_gate(id)
  erase_deliveries(id)
  return 1 + generations, rows, erase_events(raw, ENTRY, id) + earlier + replayed
end

-- erase_earlier removes an earlier generation if it ended by a time. Its events can still be
-- erased with the request.
local function erase_earlier(id, generation, ended_by)
  local key = old_key(generation, id)
  local raw = redis.call('GET', key)
  local h = raw and read_header(raw)
  if not h or not ENDED[h.state] or h.changed > ended_by then return end
  for entry in string.gmatch(raw, ENTRY) do mention_event(id, entry) end
  redis.call('DEL', key)
end
