-- feed moves waiting requests of the running batches to queued, for the process that
-- holds the leader's lease. Each batch gets its share of the room, at most a hundred
-- requests, and then comes after the others.
--
-- KEYS[1]: the account's tag
-- process
-- lease: of the leader, ms
-- min_queued, max_queued: how many fed requests the bulk lane should hold
-- ahead: for how many ms of the rate it should hold requests, within these bounds
-- max_fed: the most requests of one call
-- alive: a process whose last heartbeat is longer ago, in ms, may be dead
-- Returns {'follow' if another process leads, or 'lead'; the rate in force as n and per;
-- 1 if each process that may be alive handles bundles, else 0; the number of changes of
-- the gate that the caller logs; these; ref ...: the turns whose tasks the caller
-- enqueues}.
--
-- uses: keys, clock, record, readable, counters, turn, feeding, batch_order, batch_chunks, batch_stop, rate_in_force, watch, bundlers
local process, lease, min_queued, max_queued, ahead, max_fed, alive = unpack(ARGV)
max_fed = tonumber(max_fed)
local leader_key = tag .. ':leader'
local leader = redis.call('GET', leader_key)
local leads = not leader or leader == process
-- A lease that lasts longer than possible was stored before the clock went back.
if not leads and redis.call('PTTL', leader_key) > tonumber(lease) then leads = true end
if not leads then
  local n, per = rate_in_force()
  return { 'follow', ms(n), ms(per), 0, 0 }
end
local n, per, changed = watch()

-- Processes are in both sets with the same heartbeats, or only in the first.
local since = ms(now - alive)
local bundles = redis.call('ZCOUNT', bundlers_key(), since, '+inf') >= redis.call('ZCOUNT', tag .. ':workers', since, '+inf')
local out = { 'lead', ms(n), ms(per), bundles and 1 or 0, #changed }
for _, change in ipairs(changed) do out[#out + 1] = change end
redis.call('SET', leader_key, process, 'PX', lease)

local target = math.min(math.max(tonumber(min_queued), math.ceil(ahead * n / per)), tonumber(max_queued))
local room = math.min(target - redis.call('ZCOUNT', queued_key('b'), '-inf', ms(now)), max_fed)

-- The work that was done, in requests read.
local work = 0

-- feed feeds those of the requests that wait, which it reads and writes together, and
-- returns their number.
local function feed(batch, ids)
  if #ids == 0 then return 0 end
  work = work + #ids
  local keys, records, members = {}, {}, {}
  for i, id in ipairs(ids) do keys[i] = record_key(id) end
  local stored, fed = redis.call('MGET', unpack(keys)), {}
  for i, id in ipairs(ids) do
    local raw, h, why = stored[i], nil, nil
    if raw and raw ~= '' then h, why = read_header(raw) end
    if why == 'newer' then redis.call('SADD', tag .. ':newer', id) end
    if h and h.state == 'w' and h.lane == 'b' and h.batch == batch and not fed[id] then
      fed[id] = true
      h.state, h.changed = 'q', now
      next_turn(h)
      records[#records + 1], records[#records + 2] = keys[i], format_header(h) .. string.sub(raw, h.length + 1)
      members[#members + 1], members[#members + 2] = ms(now), id
      out[#out + 1] = turn_ref(id, h)
    end
  end
  if #members == 0 then return 0 end
  redis.call('MSET', unpack(records))
  redis.call('ZADD', queued_key('b'), unpack(members))
  return #members / 2
end

-- An earlier version's client does not requeue a chunk that it writes after the cursor
-- has passed it. keep_missing keeps the numbers of missing chunks that it may still
-- write, and feed_missing requeues those that were written. It reports whether there
-- were any.
local function keep_missing(batch, from, to)
  if to - from > MAX_MISSING then return end
  local missing = redis.call('HGET', batch_key(batch), 'gaps') or ''
  for n = from, to - 1 do missing = missing .. n .. ' ' end
  redis.call('HSET', batch_key(batch), 'gaps', missing)
end
local function feed_missing(batch)
  local missing, left, any = redis.call('HGET', batch_key(batch), 'gaps'), '', false
  for n in string.gmatch(missing or '', '%d+') do
    local text = not any and redis.call('HGET', order_key(batch), n)
    if not text then left = left .. n .. ' ' end
    for id in string.gmatch(text or '', '\n%d+ ([^\n]+)') do
      any = true
      redis.call('RPUSH', requeued_key(batch), id)
    end
  end
  if missing and left == '' then redis.call('HDEL', batch_key(batch), 'gaps')
  elseif missing ~= left and missing then redis.call('HSET', batch_key(batch), 'gaps', left) end
  return any
end

local MAX_SKIPPED = 500 -- missing chunks in one turn of a batch

-- serve feeds first the requeued requests, then the rows from the cursor on, which is the
-- number of a chunk and how many of its rows were fed. It returns how many requests were
-- fed, and whether there may be more.
local function serve(batch, share)
  if redis.call('HEXISTS', account_key(), stop_field(batch)) == 1 then return 0, false end
  local key = batch_key(batch)
  local ids = redis.call('LPOP', requeued_key(batch), share)
  if ids then return feed(batch, ids), true end
  local at = redis.call('HMGET', key, 'cursor', 'lines')
  local cursor, from = tonumber(at[1]), tonumber(at[2] or 0)
  if not cursor then return 0, false end
  local number, chunk = next_chunk(batch, cursor, MAX_SKIPPED)
  if number ~= cursor then
    if not number and not chunk then return 0, feed_missing(batch) end
    work = work + MAX_SKIPPED / 5
    redis.call('HSET', key, 'cursor', number or chunk)
    redis.call('HDEL', key, 'lines')
    if not number then return 0, true end
    keep_missing(batch, cursor, number)
    from = 0
  end
  local rows, row, fed = {}, from, 0
  for id in string.gmatch(chunk, '\n%d+([^\n]*)') do rows[#rows + 1] = string.sub(id, 2) end
  while row < #rows do
    if fed == share then
      redis.call('HSET', key, 'lines', row)
      return fed, true
    end
    local next_ids = {}
    while row < #rows and #next_ids < share - fed do
      row = row + 1
      if rows[row] ~= '' then next_ids[#next_ids + 1] = rows[row] end -- '' was erased
    end
    fed = fed + feed(batch, next_ids)
  end
  redis.call('HINCRBY', key, 'cursor', 1)
  if at[2] then redis.call('HDEL', key, 'lines') end
  return fed, true
end

local share = math.min(math.ceil(room / math.max(1, redis.call('ZCARD', running_key()))), 100)
while room > 0 and work < max_fed do
  local batch = tonumber(redis.call('ZRANGE', running_key(), 0, 0)[1])
  if not batch then break end
  work = work + 10 -- the cost of a batch's turn itself
  local fed, more = serve(batch, math.min(share, room))
  if more then
    redis.call('ZADD', running_key(), redis.call('HINCRBY', account_key(), 'served', 1), batch)
  else
    redis.call('ZREM', running_key(), batch)
  end
  if fed > 0 then
    count(batch, 'w', -fed)
    count(batch, 'q', fed)
  end
  room = room - fed
end
return out
