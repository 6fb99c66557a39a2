-- erase removes ended requests, with their earlier generations, and every place that
-- names them except the rows of other batches, see erase_rows.lua.
--
-- KEYS[1]: the account's tag
-- force: '1' to remove also a record whose header is broken, which no counter counts
-- ended_by: only requests that ended by this time, ms
-- rows: id
-- Returns four values for each id: the state that it had when it was removed, or '-' if
-- there is no record, '=' and its state if it has not ended, or not by then, or 'newer'
-- or 'poison' if its record cannot be read; how many generations were removed; how many
-- rows lost its id; when it came to its state, ms.
--
-- uses: keys, clock, record, readable, counters, operator_lists, batch_order, delivery
local force, ended_by = unpack(ARGV, 1, 2)

-- erase_row removes an id from the chunk that has its row.
local function erase_row(batch, row, id)
  local order, n = order_key(batch), math.floor((row - 1) / 100)
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

local function erase_generations(id, gen)
  local keys = {}
  for g = 1, gen - 1 do keys[g] = old_key(g, id) end
  if #keys == 0 then return 0 end
  return redis.call('DEL', unpack(keys))
end

local function erase_deliveries(id)
  for _, event in ipairs(redis.call('LRANGE', deliveries_key(id), 0, -1)) do
    redis.call('DEL', delivery_key(event))
    redis.call('ZREM', undelivered_key(), event)
    redis.call('ZREM', pending_key(), event)
  end
  redis.call('DEL', deliveries_key(id))
end

local function erase(id, h)
  local row = batch_row(redis.call('GET', record_key(id)))
  redis.call('DEL', record_key(id))
  local generations = 1 + erase_generations(id, h.gen)
  count(h.batch, h.state, -1)
  redis.call('HINCRBY', batch_key(h.batch), 'erased', 1)
  unlist_for_operator(h, id)
  redis.call('ZREM', queued_key('i'), id)
  redis.call('ZREM', queued_key('b'), id)
  redis.call('ZREM', deadlines_key(), id)
  redis.call('SREM', tag .. ':newer', id)
  erase_from_gate(id)
  erase_deliveries(id)
  return generations, row and erase_row(h.batch, tonumber(row), id) or 0
end

local out = {}
for i = 3, #ARGV do
  local id = unpack(ARGV, i, i)
  local h, why = load_readable(id)
  local state, generations, rows, at = why or '-', 0, 0, '0'
  if why == 'poison' and force == '1' then
    generations = redis.call('DEL', record_key(id))
    erase_deliveries(id)
  elseif h and ENDED[h.state] and h.changed <= tonumber(ended_by) then
    state = NAME[h.state]
    generations, rows = erase(id, h)
  elseif h then
    state, at = '=' .. NAME[h.state], ms(h.changed)
  end
  out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4] = state, generations, rows, at
end
return out
