-- accept writes the records of up to 100 requests, and their chunk of a batch.
--
-- ARGV[1] batch number, 0 for none      ARGV[2] chunk number, '' for none
-- ARGV[3] the chunk's lines: row, blank, id      ARGV[4] how many of them joined
-- ARGV[5] how many requests of a lane may wait and be queued, '' for any number
-- ARGV[6] 'plain': all are 'new', in the bulk lane, generation 1, and without
-- not_after, and only id and content follow of each. Else '', and for every
-- request, each id once:
--   op        'new'      the id must be unknown
--             'none'     the id must be unknown: nothing is written
--             'keep'     it must be at this generation: nothing changes
--             'promote'  as keep; where it waits in the bulk lane it is queued in the interactive one
--             'next'     the latest generation must be the one before, and ended
--             'leave'    its record cannot be read by this version: nothing is looked at
--   id, lane ('i' or 'b'), generation, not_after in ms or '', content
--
-- Returns {2, now in ms} where all were new, {1, raw record ...} where everything
-- applied, and {0, raw record or '' ...} where something did not: then nothing
-- was changed, and the caller decides anew from what it sees. {-1}: the batch is
-- cancelled, and nothing was changed. {-2, interactive, bulk}: everything applies, and
-- a lane has room for no more than so many; nothing was changed. {-3}: there is no
-- such batch any more.
--
-- uses: keys, clock, record, counters, operator_lists, turn, feeding, batch_order, batch_joined
local batch, chunk = tonumber(ARGV[1]), ARGV[2]
local FIRST, WIDTH, ID = 6, 6, 2
local plain = ARGV[6] == 'plain'
if plain then WIDTH, ID = 2, 1 end
local rows = (#ARGV - FIRST) / WIDTH

if batch > 0 then
  local is = redis.call('HMGET', batch_key(batch), 'status', 'name')
  if is[1] == 'cancelled' then return { -1 } end
  if not is[2] then return { -3 } end
end

local ids, keys = {}, {}
for i = 1, rows do
  ids[i] = ARGV[FIRST + (i - 1) * WIDTH + ID]
  keys[i] = record_key(ids[i])
end

local function see(ok)
  local out = { ok }
  for i = 1, rows do out[i + 1] = redis.call('GET', keys[i]) or '' end
  return out
end

local function applies(i)
  local at = FIRST + (i - 1) * WIDTH
  local op, gen = ARGV[at + 1], tonumber(ARGV[at + 4])
  if op == 'leave' then return true end
  local readable, h = pcall(load, ids[i])
  if not readable then return false end
  if op == 'new' or op == 'none' then return not h end
  if not h then return false end
  if op == 'next' then return h.gen == gen - 1 and ENDED[h.state] end
  return h.gen == gen
end

local fresh = true
for i = 1, plain and 0 or rows do
  if ARGV[FIRST + (i - 1) * WIDTH + 1] ~= 'new' then fresh = false break end
end
if fresh and rows > 0 then
  if redis.call('EXISTS', unpack(keys)) > 0 then return see(0) end
else
  for i = 1, rows do
    if not applies(i) then return see(0) end
  end
end

-- backlog returns how many requests of a lane wait or are queued. In the interactive
-- lane none waits: its requests are queued when they are accepted.
local function backlog(lane)
  local n = redis.call('ZCARD', queued_key(lane))
  if lane == 'b' then n = n + tonumber(redis.call('HGET', account_key(), 'waiting') or '0') end
  return n
end

-- A promotion is new to its lane as well.
local most = tonumber(ARGV[5])
if most then
  local new = { i = 0, b = plain and rows or 0 }
  for i = 1, plain and 0 or rows do
    local at = FIRST + (i - 1) * WIDTH
    local op, lane = ARGV[at + 1], ARGV[at + 3]
    if op == 'new' or op == 'next' then new[lane] = new[lane] + 1
    elseif op == 'promote' then
      local h = load(ids[i])
      if h.lane == 'b' and (h.state == 'w' or h.state == 'q') then new.i = new.i + 1 end
    end
  end
  local room, full = {}, false
  for lane, n in pairs(new) do
    room[lane] = n > 0 and math.max(0, most - backlog(lane)) or 0
    full = full or n > room[lane]
  end
  if full then return { -2, ms(room.i), ms(room.b) } end
end

-- Most of what is accepted at a time differs in nothing but its content.
local function new_header(lane, gen, deadline, owner)
  return header({
    state = lane == 'i' and 'q' or 'w', lane = lane, flag = '-', gen = gen, run = 1, turn = lane == 'i' and 1 or 0,
    attempts = 0, charged = 0, dups = 0, batch = owner, seen = 0, accepted = now, changed = now, holder = 0, deadline = deadline,
  })
end
local headers = {}
local function first_header(lane, deadline)
  local kind = lane .. deadline
  local known = headers[kind]
  if not known then
    known = new_header(lane, 1, deadline, batch)
    headers[kind] = known
  end
  return known
end

local accepted = { w = 0, q = 0 }
local writes, waiting = {}, {}
if plain and rows > 0 then
  local head = first_header('b', '-')
  for i = 1, rows do
    writes[2 * i - 1], writes[2 * i] = keys[i], head .. ARGV[FIRST + 2 * i]
  end
  waiting, accepted.w = ids, rows
end
for i = 1, plain and 0 or rows do
  local at = FIRST + (i - 1) * WIDTH
  local op, lane = ARGV[at + 1], ARGV[at + 3]
  if op == 'new' or op == 'next' then
    local gen, due, deadline, state = tonumber(ARGV[at + 4]), ARGV[at + 5], '-', 'w'
    if due ~= '' then
      deadline = 'd'
      redis.call('ZADD', deadlines_key(), due, ids[i])
    end
    if lane == 'i' then
      state = 'q'
      redis.call('ZADD', queued_key('i'), ms(now), ids[i])
    end
    local head
    if op == 'new' then
      head = first_header(lane, deadline)
      accepted[state] = accepted[state] + 1
      if lane == 'b' then waiting[#waiting + 1] = ids[i] end
    else
      -- The generation takes its predecessor's place in the counters of its batch.
      local before = load(ids[i])
      local owner = before.batch
      if due == '' then deadline = 'n' end
      unlist_for_operator(before, ids[i])
      redis.call('RENAME', keys[i], old_key(gen - 1, ids[i]))
      count(owner, before.state, -1)
      count(owner, state, 1)
      if lane == 'b' then requeue(owner, ids[i]) end
      head = new_header(lane, gen, deadline, owner)
    end
    writes[#writes + 1] = keys[i]
    writes[#writes + 1] = head .. ARGV[at + 6]
  elseif op == 'promote' then
    local h = load(ids[i])
    if h.lane == 'b' and (h.state == 'w' or h.state == 'q') then
      redis.call('ZREM', queued_key('b'), ids[i])
      h.lane = 'i'
      enqueue(h, ids[i])
      save(keys[i], h)
    end
  end
end
if #writes > 0 then redis.call('MSET', unpack(writes)) end
for state, n in pairs(accepted) do
  if n > 0 then count(batch, state, n) end
end

-- stays says that a row of the chunk is where one of the batch's own requests was
-- accepted: that stays, whatever file is imported next. Other rows of it go.
local function stays(row, id)
  local raw = redis.call('GET', record_key(id))
  if not raw then return false end
  local readable, h = pcall(parse, raw)
  return not readable or h.batch == batch and batch_row(raw) == row -- or a newer version's
end

-- merged gives the chunk's lines in the order of their rows, and among them those
-- that stay of its text before: another file, or one whose row is in conflict now,
-- takes nothing out of the batch.
local function merged(text, before)
  local sorted, has = {}, {}
  local function add(row, id)
    has[id] = true
    sorted[#sorted + 1] = { row = tonumber(row), at = #sorted, text = row .. ' ' .. id .. '\n' }
  end
  for row, id in string.gmatch(text, '(%d+) ([^\n]+)') do add(row, id) end
  local given = #sorted
  for row, id in string.gmatch(before, '\n(%d+) ([^\n]+)') do
    if not has[id] and stays(row, id) then add(row, id) end
  end
  if #sorted == given then return text end
  table.sort(sorted, function(a, b) return a.row < b.row or a.row == b.row and a.at < b.at end)
  for i, line in ipairs(sorted) do sorted[i] = line.text end
  return table.concat(sorted)
end

if chunk ~= '' then
  -- A chunk that was written before may have been fed already, and one that comes late
  -- was passed over: what is new and what its old rows were is fed before the rows, and
  -- one that does not wait is left as it is.
  local order, counts = order_key(batch), batch_key(batch)
  local before = redis.call('HGET', order, chunk)
  local at = redis.call('HMGET', counts, 'cursor', 'last')
  local value, joined = ARGV[4] .. '\n' .. ARGV[3], tonumber(ARGV[4])
  if before or tonumber(chunk) < tonumber(at[1] or '0') then
    for _, id in ipairs(waiting) do requeue(batch, id) end
  end
  if before and before ~= value then value = ARGV[4] .. '\n' .. merged(ARGV[3], before) end
  local last = math.max(tonumber(chunk), tonumber(at[2] or '-1'))
  redis.call('HSET', counts, 'last', last, 'written', ms(now))
  if before ~= value then
    redis.call('HSET', order, chunk, value)
    if joined > 0 then redis.call('HSET', joined_key(batch), chunk, joined)
    elseif before then redis.call('HDEL', joined_key(batch), chunk) end
    if before then
      joined = joined - tonumber(string.match(before, '^%d+'))
      for id in string.gmatch(before, '\n%d+ ([^\n]+)') do requeue(batch, id) end
    end
    if joined ~= 0 then redis.call('HINCRBY', counts, 'joined', joined) end
    schedule_feed(batch)
  end
else
  for _, id in ipairs(waiting) do requeue(batch, id) end
end
if fresh then return { 2, ms(now) } end
return see(1)
