-- feed moves waiting requests of the running batches to queued, one chunk a
-- turn, for the process that holds the leader's lease.
--
-- ARGV[1] process   ARGV[2] lease, ms   ARGV[3] how many fed requests the bulk
-- lane should hold at least, [4] at most, [5] for how many ms of the rate
-- ARGV[6] most requests of one call
--
-- Returns {'follow' where another process leads, or 'lead'; the rate in force as
-- two numbers, n per so many ms; how many changes of the gate are the caller's to
-- log, and these; ref ...: the turns whose tasks the caller enqueues}.
local process, most = ARGV[1], tonumber(ARGV[6])
local leader = redis.call('GET', tag .. ':leader')
local leads = not leader or leader == process
if not leads then
  local n, per = in_force()
  return { 'follow', ms(n), ms(per), 0 }
end
local n, per, changed = watch()
local out = { 'lead', ms(n), ms(per), #changed }
for _, change in ipairs(changed) do out[#out + 1] = change end
redis.call('SET', tag .. ':leader', process, 'PX', ARGV[2])

local target = least(math.max(tonumber(ARGV[3]), math.ceil(ARGV[5] * n / per)), tonumber(ARGV[4]))
local room = target - redis.call('ZCOUNT', queued_key('b'), '-inf', ms(now))
if room > most then room = most end

local function feed(batch, id, fed)
  local h, why = peek(id)
  if why == 'newer' then redis.call('SADD', tag .. ':newer', id) end
  if not h or h.state ~= 'w' or h.lane ~= 'b' or h.batch ~= batch then return fed end
  h.state, h.changed = 'q', now
  h.turn = (h.turn + 1) % 10000
  redis.call('ZADD', queued_key('b'), ms(now), id)
  save(record_key(id), h)
  out[#out + 1] = id .. ':' .. h.gen .. ':' .. h.run .. ':' .. h.turn
  return fed + 1
end

local function serve(batch)
  local fed = 0
  local ids = redis.call('LPOP', again_key(batch), least(room, 100))
  if ids then
    for _, id in ipairs(ids) do fed = feed(batch, id, fed) end
    return fed, true
  end
  local cursor = redis.call('HGET', batch_key(batch), 'cursor')
  local chunk = cursor and redis.call('HGET', tag .. ':order:' .. batch, cursor)
  if not chunk then return 0, false end
  for id in string.gmatch(chunk, '\n%d+ ([^\n]+)') do fed = feed(batch, id, fed) end
  redis.call('HINCRBY', batch_key(batch), 'cursor', 1)
  return fed, true
end

local looked = 0
while room > 0 and looked < most do
  local batch = tonumber(redis.call('ZRANGE', running_key(), 0, 0)[1])
  if not batch then break end
  local fed, more = serve(batch)
  if more then
    redis.call('ZADD', running_key(), redis.call('HINCRBY', account_key(), 'served', 1), batch)
  else
    redis.call('ZREM', running_key(), batch)
  end
  if fed > 0 then
    redis.call('HINCRBY', batch_key(batch), 'waiting', -fed)
    redis.call('HINCRBY', batch_key(batch), 'queued', fed)
  end
  room, looked = room - fed, looked + 100
end
return out
