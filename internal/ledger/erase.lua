-- erase takes ended requests away, with their earlier generations, and every
-- place that names them but other rows of other batches: see scrub.lua.
--
-- ARGV[1] '1': also a record whose header is broken, which no counter knows of
-- ARGV[2] ended by this time, in ms   ARGV[3...] ids
-- Returns for each id: the state that it had where it was erased, or '-' where
-- there is none, '=' and its state where it has not ended, or not by then, or
-- 'newer' or 'poison' where it cannot be read; then how many generations went,
-- and how many rows lost its id; then when it came to its state, in ms.
--
-- uses: keys, clock, record, readable, counters, operator_lists, delivery
local force, due = ARGV[1] == '1', tonumber(ARGV[2])

-- blank takes an id out of the chunk that has the row.
local function blank(batch, row, id)
  local order, n = tag .. ':order:' .. batch, math.floor((row - 1) / 100)
  local text, cut = redis.call('HGET', order, n), 0
  if not text then return 0 end
  local needle = ' ' .. id .. '\n'
  local at = string.find(text, needle, 1, true)
  while at do
    text = string.sub(text, 1, at - 1) .. string.sub(text, at + #needle - 1)
    cut = cut + 1
    at = string.find(text, needle, at, true)
  end
  if cut > 0 then redis.call('HSET', order, n, text) end
  return cut
end

-- The gate remembers whom the present row of faults befell, and who probed last.
local function unmind(id)
  local gate = redis.call('HMGET', tag .. ':gate', 'probe', 'row', 'refused')
  if gate[1] == id then redis.call('HSET', tag .. ':gate', 'prober', '', 'probe', '', 'sent', 0, 'by', 0) end
  for credential in string.gmatch(gate[3] or '', '%S+') do
    local key = tag .. ':refused:' .. credential
    if redis.call('HGET', key, 'id') == id then redis.call('HSET', key, 'prober', '', 'id', '', 'by', 0) end
  end
  if not gate[2] or not string.find('\n' .. gate[2] .. '\n', '\n' .. id .. '\n', 1, true) then return end
  local others = {}
  for other in string.gmatch(gate[2], '[^\n]+') do
    if other ~= id then others[#others + 1] = other end
  end
  redis.call('HSET', tag .. ':gate', 'row', table.concat(others, '\n'))
end

local function earlier(id, gen)
  local keys = {}
  for g = 1, gen - 1 do keys[g] = old_key(g, id) end
  if #keys == 0 then return 0 end
  return redis.call('DEL', unpack(keys))
end

local function undeliver(id)
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
  local generations = 1 + earlier(id, h.gen)
  count(h.batch, h.state, -1)
  redis.call('HINCRBY', batch_key(h.batch), 'erased', 1)
  unlist_for_operator(h, id)
  redis.call('ZREM', queued_key('i'), id)
  redis.call('ZREM', queued_key('b'), id)
  redis.call('ZREM', deadlines_key(), id)
  redis.call('SREM', tag .. ':newer', id)
  unmind(id)
  undeliver(id)
  return generations, row and blank(h.batch, tonumber(row), id) or 0
end

local out = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  local h, why = load_readable(id)
  local state, generations, rows, at = why or '-', 0, 0, '0'
  if why == 'poison' and force then
    generations = redis.call('DEL', record_key(id))
    undeliver(id)
  elseif h and ENDED[h.state] and h.changed <= due then
    state = NAME[h.state]
    generations, rows = erase(id, h)
  elseif h then
    state, at = '=' .. NAME[h.state], ms(h.changed)
  end
  out[#out + 1], out[#out + 2], out[#out + 3], out[#out + 4] = state, generations, rows, at
end
return out
