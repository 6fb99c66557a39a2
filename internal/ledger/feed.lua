-- feed moves waiting requests of the running batches to queued, for the process
-- that holds the leader's lease. Each batch gets its share of the room, a hundred
-- at most, and then comes after the others.
--
-- ARGV[1] process   ARGV[2] lease, ms   ARGV[3] how many fed requests the bulk
-- lane should hold at least, [4] at most, [5] for how many ms of the rate
-- ARGV[6] most requests of one call
--
-- Returns {'follow' where another process leads, or 'lead'; the rate in force as
-- two numbers, n per so many ms; how many changes of the gate are the caller's to
-- log, and these; ref ...: the turns whose tasks the caller enqueues}.
--
-- uses: keys, clock, record, readable, counters, feeding, batch_order, batch_chunks, batch_stop, rate_in_force, watch
local process, most = ARGV[1], tonumber(ARGV[6])
local leader = redis.call('GET', tag .. ':leader')
local leads = not leader or leader == process
-- A lease that lasts longer than any is from before the clock went back.
if not leads and redis.call('PTTL', tag .. ':leader') > tonumber(ARGV[2]) then leads = true end
if not leads then
  local n, per = rate_in_force()
  return { 'follow', ms(n), ms(per), 0 }
end
local n, per, changed = watch()
local out = { 'lead', ms(n), ms(per), #changed }
for _, change in ipairs(changed) do out[#out + 1] = change end
redis.call('SET', tag .. ':leader', process, 'PX', ARGV[2])

local target = math.min(math.max(tonumber(ARGV[3]), math.ceil(ARGV[5] * n / per)), tonumber(ARGV[4]))
local room = target - redis.call('ZCOUNT', queued_key('b'), '-inf', ms(now))
if room > most then room = most end

local looked = 0

local function feed(batch, id)
  looked = looked + 1
  local h, why = load_readable(id)
  if why == 'newer' then redis.call('SADD', tag .. ':newer', id) end
  if not h or h.state ~= 'w' or h.lane ~= 'b' or h.batch ~= batch then return 0 end
  h.state, h.changed = 'q', now
  h.turn = (h.turn + 1) % 10000
  redis.call('ZADD', queued_key('b'), ms(now), id)
  save(record_key(id), h)
  out[#out + 1] = id .. ':' .. h.gen .. ':' .. h.run .. ':' .. h.turn
  return 1
end

-- An older version's producer does not say that it filled a gap which was passed over.
-- passed keeps those that it may still fill, as many as it has on its way, and
-- refilled feeds the ones that are there. It says whether there are any.
local function passed(batch, from, to)
  if to - from > MAX_MISSING then return end
  local gaps = redis.call('HGET', batch_key(batch), 'gaps') or ''
  for n = from, to - 1 do gaps = gaps .. n .. ' ' end
  redis.call('HSET', batch_key(batch), 'gaps', gaps)
end
local function refilled(batch)
  local gaps, left, any = redis.call('HGET', batch_key(batch), 'gaps'), '', false
  for n in string.gmatch(gaps or '', '%d+') do
    local text = not any and redis.call('HGET', order_key(batch), n)
    if not text then left = left .. n .. ' ' end
    for id in string.gmatch(text or '', '\n%d+ ([^\n]+)') do
      any = true
      redis.call('RPUSH', requeued_key(batch), id)
    end
  end
  if gaps and left == '' then redis.call('HDEL', batch_key(batch), 'gaps')
  elseif gaps ~= left and gaps then redis.call('HSET', batch_key(batch), 'gaps', left) end
  return any
end

local MISSING = 500 -- chunks that one turn passes over

-- serve feeds what was put back first, then the rows from the cursor on: the
-- number of a chunk, and how many of its lines were fed. It gives how many were
-- fed, and whether there may be more.
local function serve(batch, share)
  if redis.call('HEXISTS', account_key(), stop_field(batch)) == 1 then return 0, false end
  local fed, counts = 0, batch_key(batch)
  local ids = redis.call('LPOP', requeued_key(batch), share)
  if ids then
    for _, id in ipairs(ids) do fed = fed + feed(batch, id) end
    return fed, true
  end
  local at = redis.call('HMGET', counts, 'cursor', 'lines')
  local cursor, from = tonumber(at[1]), tonumber(at[2] or 0)
  if not cursor then return 0, false end
  local number, chunk = next_chunk(batch, cursor, MISSING)
  if number ~= cursor then
    if not number and not chunk then return 0, refilled(batch) end
    looked = looked + MISSING / 5
    redis.call('HSET', counts, 'cursor', number or chunk)
    redis.call('HDEL', counts, 'lines')
    if not number then return 0, true end
    passed(batch, cursor, number)
    from = 0
  end
  local line = 0
  for rest in string.gmatch(chunk, '\n%d+([^\n]*)') do
    if fed == share then
      redis.call('HSET', counts, 'lines', line)
      return fed, true
    end
    line = line + 1
    if line > from and rest ~= '' then fed = fed + feed(batch, string.sub(rest, 2)) end -- '' was erased
  end
  redis.call('HINCRBY', counts, 'cursor', 1)
  if at[2] then redis.call('HDEL', counts, 'lines') end
  return fed, true
end

local share = math.min(math.ceil(room / math.max(1, redis.call('ZCARD', running_key()))), 100)
while room > 0 and looked < most do
  local batch = tonumber(redis.call('ZRANGE', running_key(), 0, 0)[1])
  if not batch then break end
  looked = looked + 10 -- what a turn costs besides
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
