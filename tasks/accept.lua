-- accept writes the records of up to 100 requests, and their chunk of a batch: either
-- every row applies, or nothing is changed.
--
-- KEYS[1]: the account's tag
-- batch: its number, 0 for none
-- chunk: its number, '' for none
-- chunk_rows: the chunk's text, a line "row id" for each row
-- size: how many rows these are
-- joined: how many of them joined
-- max_backlog: how many requests of a lane may wait and be queued, '' for any number
-- rows: op, id (each id once), lane ('i' or 'b'), generation, not_after (ms, or ''),
--   content. op is what must hold, and is done:
--   new      the id is unknown, and is accepted
--   none     the id is unknown, and nothing is written
--   keep     the request has this generation, and is not changed
--   promote  the same; if it waits in the bulk lane, it is queued in the interactive lane
--   next     the latest generation is the one before, and has ended; this one is accepted
--   leave    this version cannot read the record: nothing is examined
--
-- Returns {2, now in ms} if all were new; {1, record ...} if every row applied;
-- {0, record or '' ...} if not: the caller decides again from what is stored; {-1}: the
-- batch is cancelled; {-2, interactive, bulk}: every row applies, and the lanes have room
-- for no more than so many new requests; {-3}: there is no such batch any more.
--
-- uses: keys, clock, record, counters, operator_lists, turn, feeding, accepting, chunk
local batch, chunk, chunk_rows, size, joined, max_backlog = unpack(ARGV, 1, 6)
batch = tonumber(batch)
local refusal = batch_refusal(batch)
if refusal then return refusal end

local rows, keys, all_new = {}, {}, true
for i = 7, #ARGV, 6 do
  local op, id, lane, generation, not_after, content = unpack(ARGV, i, i + 5)
  local n = #rows + 1
  keys[n] = record_key(id)
  rows[n] = { op = op, id = id, key = keys[n], lane = lane, gen = tonumber(generation), not_after = not_after, content = content }
  all_new = all_new and op == 'new'
end

local function applies(row)
  if row.op == 'leave' then return true end
  local readable, h = pcall(load_header, row.id)
  if not readable then return false end
  if row.op == 'new' or row.op == 'none' then return not h end
  if not h then return false end
  if row.op == 'next' then return h.gen == row.gen - 1 and ENDED[h.state] end
  return h.gen == row.gen
end

if all_new and #rows > 0 then
  if redis.call('EXISTS', unpack(keys)) > 0 then return stored_records(0, keys) end
else
  for _, row in ipairs(rows) do
    if not applies(row) then return stored_records(0, keys) end
  end
end

local function waits_in_bulk(h) return h.lane == 'b' and (h.state == 'w' or h.state == 'q') end

if max_backlog ~= '' then
  local new = { i = 0, b = 0 }
  for _, row in ipairs(rows) do
    if row.op == 'new' or row.op == 'next' then new[row.lane] = new[row.lane] + 1
    elseif row.op == 'promote' and waits_in_bulk(load_header(row.id)) then new.i = new.i + 1 end
  end
  local full = backlog_refusal(new, max_backlog)
  if full then return full end
end

-- Most requests that are accepted together have the same header.
local headers = {}
local function first_header(lane, deadline)
  local kind = lane .. deadline
  headers[kind] = headers[kind] or new_header(lane, 1, deadline, batch)
  return headers[kind]
end

-- next_header moves the earlier generation away, and returns the header of the next one,
-- which takes its place in the counters of its batch.
local function next_header(row, state, deadline)
  local before = load_header(row.id)
  unlist_for_operator(before, row.id)
  redis.call('RENAME', row.key, old_key(row.gen - 1, row.id))
  count(before.batch, before.state, -1)
  count(before.batch, state, 1)
  if row.lane == 'b' then requeue(before.batch, row.id) end
  return new_header(row.lane, row.gen, deadline, before.batch)
end

local accepted, writes, waiting = { w = 0, q = 0 }, {}, {}
local function accept(row)
  local state, deadline = 'w', '-'
  if row.not_after ~= '' then
    deadline = 'd'
    redis.call('ZADD', deadlines_key(), row.not_after, row.id)
  elseif row.op == 'next' then
    deadline = 'n'
  end
  if row.lane == 'i' then
    state = 'q'
    redis.call('ZADD', queued_key('i'), ms(now), row.id)
  end
  local head
  if row.op == 'next' then
    head = next_header(row, state, deadline)
  else
    head = first_header(row.lane, deadline)
    accepted[state] = accepted[state] + 1
    if row.lane == 'b' then waiting[#waiting + 1] = row.id end
  end
  writes[#writes + 1] = row.key
  writes[#writes + 1] = new_record(head, row.content)
end

for _, row in ipairs(rows) do
  if row.op == 'new' or row.op == 'next' then accept(row)
  elseif row.op == 'promote' then
    local h = load_header(row.id)
    if waits_in_bulk(h) then
      redis.call('ZREM', queued_key('b'), row.id)
      h.lane = 'i'
      enqueue(h, row.id)
      save_header(row.key, h)
    end
  end
end
if #writes > 0 then redis.call('MSET', unpack(writes)) end
for state, n in pairs(accepted) do
  if n > 0 then count(batch, state, n) end
end
store_chunk(batch, chunk, chunk_rows, size, joined, waiting)
if all_new then return { 2, ms(now) } end
return stored_records(1, keys)
