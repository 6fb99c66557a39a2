-- lua/memo.lua
local CONNECT_TIMEOUT, MAX_WAIT, RAMP_AFTER, WAITER_TTL, MAX_PAUSE, MAX_UNOBSERVED, NAME, OBSERVE_EVERY, bundlers_key, ANSWER_TIMEOUT, MAX_UNLOGGED, NEW_HEADER, RAMP_TIME, calls_hang, change_state, close_for, load_header, next_chunk, next_turn, observe, rate_in_force, requeue, require_fields, stop_field, store_gate, turn_ref, FIRST_PAUSE, GATE, MAX_MISSING, header_of_new, is_new, move, parse_header, queued_key, read_gate, read_header, record_key, requeued_key, watch, RANK, account_key, close_reason, dirty, format_header, order_key, running_key, second, count, CALLS, HEADER, batch_key, changes, memo, header, clock, set, now, tag, ms, gate do
function memo(f)
  return setmetatable({}, { __index = function(results, x)
    local result = f(x)
    if type(x) ~= 'number' or x < 256 or x > 67108864 then results[x] = result end
    return result
  end })
end
-- lua/keys.lua
end do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
function account_key() return ACCOUNT end
function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/record.lua
end do
HEADER, NEW_HEADER = 74, 20
NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
local ENDED = { C = true, F = true, X = true }
local HEADER_COLUMNS = '^([12])(.)(.)(.)(...)(...)(....)(.....)(..)(....)(......)(..........)(.............)(.............)(......)(.)'
local NEW_COLUMNS = '^n(......)(.............)'
function is_new(raw) return string.sub(raw, 1, 1) == 'n' end
local function header_length(raw) return is_new(raw) and NEW_HEADER or HEADER end
local NUMBER = memo(tonumber)
local DIGITS = memo(function(width)
  local format = '%0' .. width .. '.0f'
  return memo(function(n) return string.format(format, n) end)
end)
function header(version, state, lane, flag, gen, run, turn, attempts, charged, dups, batch, seen, accepted, changed, holder, deadline)
  if not version then return nil end
  return {
    version = version, length = HEADER, state = state, lane = lane, flag = flag, gen = NUMBER[gen], run = NUMBER[run], turn = NUMBER[turn],
    attempts = NUMBER[attempts], charged = NUMBER[charged], dups = NUMBER[dups], batch = NUMBER[batch], seen = NUMBER[seen], accepted = NUMBER[accepted],
    changed = NUMBER[changed], holder = NUMBER[holder], deadline = deadline,
  }
end
function header_of_new(batch, accepted)
  if not batch then return nil end
  return {
    version = '2', length = NEW_HEADER, state = 'w', lane = 'b', flag = '-', gen = 1, run = 1, turn = 0, attempts = 0, charged = 0,
    dups = 0, batch = NUMBER[batch], seen = 0, accepted = NUMBER[accepted], changed = NUMBER[accepted], holder = 0, deadline = '-',
  }
end
function parse_header(raw)
  return is_new(raw) and header_of_new(string.match(raw, NEW_COLUMNS)) or header(string.match(raw, HEADER_COLUMNS))
    or error('record of an unknown version', 0)
end
function format_header(h)
  local raw = h.version .. h.state .. h.lane .. h.flag .. DIGITS[3][h.gen] .. DIGITS[3][h.run] .. DIGITS[4][h.turn]
    .. DIGITS[5][math.min(h.attempts, 99999)] .. DIGITS[2][math.min(h.charged, 99)] .. DIGITS[4][math.min(h.dups, 9999)]
    .. DIGITS[6][h.batch] .. DIGITS[10][math.min(h.seen, 9999999999)] .. DIGITS[13][h.accepted] .. DIGITS[13][h.changed]
    .. DIGITS[6][h.holder] .. h.deadline
  if #raw ~= HEADER then error('a number is too large for its column in the header ' .. raw, 0) end
  return raw
end
function load_header(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if #raw < header_length(raw) then return nil end
  return parse_header(raw)
end
local function save_header(key, h)
  local columns = format_header(h)
  if h.length == HEADER then
    redis.call('SETRANGE', key, 0, columns)
  else
    redis.call('SET', key, columns .. redis.call('GETRANGE', key, h.length, -1))
    h.length = HEADER
  end
  return columns
end
local function replace_header(key, h, raw)
  raw = format_header(h) .. string.sub(raw, h.length + 1)
  h.length = HEADER
  redis.call('SET', key, raw)
  return raw
end
local function sections(raw)
  local out, from = {}, header_length(raw) + 1
  while #out < 3 do
    local cut = string.find(raw, '\n', from, true)
    if not cut then break end
    out[#out + 1] = string.sub(raw, from, cut - 1)
    from = cut + 1
  end
  out[#out + 1] = string.sub(raw, from)
  return out[1] or '', out[2] or '', out[3] or '', out[4] or ''
end
local function write_record(key, h, content, resolved, outcome, earlier)
  local head, raw = format_header(h), nil
  if earlier ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome .. '\n' .. earlier
  elseif outcome ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome
  elseif resolved ~= '' then raw = head .. content .. '\n' .. resolved
  else raw = head .. content end
  redis.call('SET', key, raw)
  return raw
end
local function batch_row(raw) return string.match(sections(raw), '"ro?w?":(%d+)}$') end
-- lua/readable.lua
end do
local STRICT_COLUMNS = '^([12])([wqchCFX])([ib])([%-x])(%d%d%d)(%d%d%d)(%d%d%d%d)(%d%d%d%d%d)(%d%d)(%d%d%d%d)(%d%d%d%d%d%d)'
  .. '(%d%d%d%d%d%d%d%d%d%d)(%d%d%d%d%d%d%d%d%d%d%d%d%d)(%d%d%d%d%d%d%d%d%d%d%d%d%d)(%d%d%d%d%d%d)([%-dn])'
local STRICT_NEW_COLUMNS = '^n(%d%d%d%d%d%d)(%d%d%d%d%d%d%d%d%d%d%d%d%d)'
function read_header(raw)
  local h
  if is_new(raw) then h = header_of_new(string.match(raw, STRICT_NEW_COLUMNS)) else h = header(string.match(raw, STRICT_COLUMNS)) end
  if h then return h end
  return nil, string.match(raw, '^[12n]') and 'poison' or 'newer'
end
local function load_readable(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if raw == '' then return nil end
  return read_header(raw)
end
-- lua/counters.lua
end do
function count(batch, state, n)
  redis.call('HINCRBY', batch_key(batch), NAME[state], n)
  if state == 'w' then redis.call('HINCRBY', account_key(), 'waiting', n) end
end
function move(h, state, counts)
  if counts then
    counts[h.state] = (counts[h.state] or 0) - 1
    counts[state] = (counts[state] or 0) + 1
  elseif h.state ~= state then
    count(h.batch, h.state, -1)
    count(h.batch, state, 1)
  end
  h.state, h.changed = state, now
end
-- lua/turn.lua
end do
function turn_ref(id, h) return id .. ':' .. ms(h.gen) .. ':' .. ms(h.run) .. ':' .. ms(h.turn) end
function next_turn(h) h.turn = (h.turn + 1) % 10000 end
local function enqueue(h, id)
  move(h, 'q')
  next_turn(h)
  redis.call('ZADD', queued_key(h.lane), ms(now), id)
end
-- lua/feeding.lua
end do
function running_key() return tag .. ':running' end
function requeued_key(batch) return tag .. ':again:' .. batch end
local last_served
local function schedule_feed(batch)
  last_served = last_served or redis.call('HGET', account_key(), 'served') or '0'
  redis.call('ZADD', running_key(), 'NX', last_served, batch)
end
function requeue(batch, id)
  redis.call('RPUSH', requeued_key(batch), id)
  schedule_feed(batch)
end
-- lua/batch_order.lua
end do
function order_key(batch) return tag .. ':order:' .. batch end
-- lua/batch_chunks.lua
end do
MAX_MISSING = 16
local function last_chunk(batch)
  local n = redis.call('HLEN', order_key(batch))
  if n == 0 then return -1 end
  return math.max(n - 1 + MAX_MISSING, tonumber(redis.call('HGET', batch_key(batch), 'last') or '-1'))
end
function next_chunk(batch, from, most)
  local text = redis.call('HGET', order_key(batch), from)
  if text then return from, text end
  local last = last_chunk(batch)
  for n = from + 1, math.min(from + most, last) do
    if redis.call('HEXISTS', order_key(batch), n) == 1 then return n, redis.call('HGET', order_key(batch), n) end
  end
  if from + most < last then return nil, from + most + 1 end
end
-- lua/batch_stop.lua
end do
function stop_field(batch) return 'batch:' .. batch end
-- admission/gate_state.lua
end do
local us = clock[1] * 1000000 + clock[2]
second = math.floor(us / 1000000)
GATE = tag .. ':gate'
WAITER_TTL, MAX_UNLOGGED = 250, 50
local HISTORY_TIME, MIN_HISTORY, MAX_HISTORY = 3600000, 50, 8000
MAX_UNOBSERVED, OBSERVE_EVERY = 1000, 200
CONNECT_TIMEOUT, ANSWER_TIMEOUT, MAX_WAIT = 10000, 75000, 1000
RAMP_TIME, RAMP_AFTER = 5000, 10000
local REFUSED_PAUSE, REFUSAL_TTL = { first = 60000, max = 600000 }, 86400000
FIRST_PAUSE = { outage = 5000, throttled = 1000, no_credit = 60000, limit_reached = 60000 }
MAX_PAUSE = { outage = 60000, throttled = 60000, no_credit = 600000, limit_reached = 600000 }
RANK = { outage = 1, throttled = 1, no_credit = 2, limit_reached = 2 }
local DEFAULT = { n = 5, per = 1000, burst = 5, level = 0, at = 0, since = 0, closed = 0, opened = 0, next = 0, pause = 0,
  sent = 0, by = 0, throttles = 0, answered = 0, looked = 0, usual = 0, ['line:interactive'] = 0, ['line:bulk'] = 0, asked = 0 }
local USED = 'used:' .. second % 11
gate, dirty, changes = {}, {}, {}
function set(name, value)
  if gate[name] ~= value then gate[name], dirty[name] = value, true end
end
local function read_fields(names)
  local values = redis.call('HMGET', GATE, unpack(names))
  for i, name in ipairs(names) do
    local text, default = values[i], DEFAULT[name]
    if default then gate[name] = tonumber(text or default)
    elseif name == 'state' then gate[name] = text or 'open'
    else gate[name] = text or '' end
  end
end
function require_fields(names)
  local missing = {}
  for _, name in ipairs(names) do
    if rawget(gate, name) == nil then missing[#missing + 1] = name end
  end
  if #missing > 0 then read_fields(missing) end
  setmetatable(gate, { __index = function(_, name)
    setmetatable(gate, nil)
    local rest = { USED, 'held', 'under', 'prober', 'probe', 'row', 'last', 'refused', 'good' }
    for number in pairs(DEFAULT) do rest[#rest + 1] = number end
    missing = {}
    for _, other in ipairs(rest) do
      if gate[other] == nil then missing[#missing + 1] = other end
    end
    if #missing > 0 then read_fields(missing) end
    return gate[name]
  end })
end
function store_gate()
  local args = {}
  for name in pairs(dirty) do
    local value = gate[name]
    if type(value) == 'number' then value = string.format('%.17g', value) end
    args[#args + 1], args[#args + 2] = name, value
  end
  if #args > 0 then redis.call('HSET', GATE, unpack(args)) end
  dirty = {}
end
local function record_change(state, reason, at)
  redis.call('RPUSH', tag .. ':history', ms(at) .. ' ' .. state .. ' ' .. reason)
  local length = redis.call('LLEN', tag .. ':history')
  for _ = 1, math.min(10, length - MIN_HISTORY) do
    local second = tonumber(string.match(redis.call('LINDEX', tag .. ':history', 1), '^%d+'))
    if second > now - HISTORY_TIME and second <= now and length <= MAX_HISTORY then break end
    redis.call('LPOP', tag .. ':history')
    length = length - 1
  end
  redis.call('RPUSH', tag .. ':unlogged', ms(at) .. ' ' .. state .. ' ' .. reason)
  redis.call('LTRIM', tag .. ':unlogged', -MAX_UNLOGGED, -1)
  changes[#changes + 1] = { ms(at), state, reason }
end
function change_state(state, reason, at)
  if gate.state == state and gate.reason == reason then return end
  set('state', state) set('reason', reason) set('since', at)
  record_change(state, reason, at)
end
-- admission/rate_in_force.lua
end do
function rate_in_force()
  local rate = redis.call('HMGET', GATE, 'n', 'per')
  return tonumber(rate[1] or 5), tonumber(rate[2] or 1000)
end
-- admission/calls.lua
end do
CALLS = tag .. ':calls'
local function call_name(process, id, nonce) return process .. ' ' .. id .. ' ' .. nonce end
local function is_granted(process, id, nonce)
  return nonce ~= '' and redis.call('ZSCORE', CALLS, call_name(process, id, nonce)) ~= false
end
local function remove_call(process, id, nonce, began)
  if nonce ~= '' then
    redis.call('ZREM', CALLS, call_name(process, id, nonce))
    return
  end
  local prefix = call_name(process, id, '')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', CALLS, ms(began), ms(began))) do
    if string.sub(member .. ' ', 1, #prefix) == prefix then redis.call('ZREM', CALLS, member) end
  end
end
-- admission/gate_begin.lua
end do
local FURTHEST = { next = 600000, by = ANSWER_TIMEOUT } -- how far ahead these may be
local function shift_times(by)
  for _, name in ipairs({ 'since', 'closed', 'opened', 'answered', 'looked', 'asked', 'next', 'by' }) do
    if gate[name] > 0 then set(name, math.min(gate[name] - by, now + (FURTHEST[name] or 0))) end
  end
  for _, lane in ipairs({ 'interactive', 'bulk' }) do
    redis.call('DEL', tag .. ':line:' .. lane)
    set('line:' .. lane, 0)
  end
  local ahead = redis.call('ZRANGEBYSCORE', CALLS, '(' .. ms(now), '+inf', 'WITHSCORES')
  for i = 1, #ahead, 2 do redis.call('ZADD', CALLS, ms(math.min(ahead[i + 1] - by, now)), ahead[i]) end
  for credential in string.gmatch(gate.refused, '%S+') do
    local key = tag .. ':refused:' .. credential
    for i, at in ipairs(redis.call('HMGET', key, 'since', 'next', 'by')) do
      if at and tonumber(at) > 0 then redis.call('HSET', key, ({ 'since', 'next', 'by' })[i], ms(at - by)) end
    end
  end
end
local COMMON_FIELDS = { 'state', 'reason', 'looked', 'answered' }
local fields_read = {}
function read_gate(fields)
  if fields_read[fields] then return end
  fields_read[fields] = true
  require_fields(fields)
  local ahead = math.max(gate.looked, gate.answered) - now
  if ahead > 0 then shift_times(ahead) end
  if gate.state == 'ramping' and now >= gate.opened + RAMP_TIME then
    change_state('open', '', gate.opened + RAMP_TIME)
  end
end
-- admission/gate.lua
end do
function close_reason()
  if gate.reason == 'paused' then return gate.under end
  return gate.reason
end
local function clear_probe() set('prober', '') set('probe', '') set('sent', 0) set('by', 0) end
local function close_gate(reason, wait, pause)
  if close_reason() == '' then set('closed', now) end
  set('pause', pause or wait)
  set('next', math.max(gate.next, now + wait))
  if gate.reason == 'paused' then set('under', reason) else change_state('closed', reason, now) end
end
local function longer_pause(reason) return math.min(MAX_PAUSE[reason], gate.pause * 2) end
function close_for(reason, from_probe, wait)
  local current = close_reason()
  if current == '' then
    close_gate(reason, wait or FIRST_PAUSE[reason])
  elseif from_probe and RANK[reason] >= RANK[current] then
    close_gate(reason, wait or (reason == current and longer_pause(reason)) or FIRST_PAUSE[reason])
  elseif from_probe then
    local pause = longer_pause(current)
    close_gate(current, math.max(pause, wait or 0), pause)
  elseif RANK[reason] > RANK[current] then
    close_gate(reason, FIRST_PAUSE[reason])
  elseif wait then
    set('next', math.max(gate.next, now + wait))
  end
end
-- admission/gate_silence.lua
end do
function observe()
  if now - gate.looked > MAX_UNOBSERVED then set('answered', math.max(gate.answered, now)) end
  if now - gate.looked >= OBSERVE_EVERY then set('looked', now) end
end
function calls_hang()
  local silence = math.max(2000, math.min(60000, 4 * gate.usual))
  if close_reason() ~= '' or now - gate.answered <= silence then return false end
  local from, to = ms(math.max(gate.opened, now - ANSWER_TIMEOUT)), '(' .. ms(now - silence)
  if redis.call('ZCOUNT', CALLS, from, to) < 5 then return false end
  local calls, heartbeats, hang = redis.call('ZRANGEBYSCORE', CALLS, from, to, 'WITHSCORES'), {}, 0
  for i = 1, #calls, 2 do
    local process = string.match(calls[i], '^%S+')
    if not heartbeats[process] then
      heartbeats[process] = tonumber(redis.call('ZSCORE', tag .. ':workers', process) or 0)
      if heartbeats[process] > now then heartbeats[process] = 0 end
    end
    if heartbeats[process] >= calls[i + 1] + silence then hang = hang + 1 end
  end
  return hang >= 5
end
-- admission/watch.lua
end do
local WATCH_FIELDS = { 'state', 'reason', 'looked', 'answered', 'usual', 'n', 'per' }
function watch()
  read_gate(WATCH_FIELDS)
  observe()
  if gate.state ~= 'closed' and calls_hang() then close_for('outage', false) end
  store_gate()
  return gate.n, gate.per, redis.call('LPOP', tag .. ':unlogged', MAX_UNLOGGED) or {}
end
-- lua/bundlers.lua
end do
function bundlers_key() return tag .. ':bundlers' end
-- ledger/feed.lua
end
local process, lease, min_queued, max_queued, ahead, max_fed, alive = unpack(ARGV)
max_fed = tonumber(max_fed)
local leader_key = tag .. ':leader'
local leader = redis.call('GET', leader_key)
local leads = not leader or leader == process
if not leads and redis.call('PTTL', leader_key) > tonumber(lease) then leads = true end
if not leads then
  local n, per = rate_in_force()
  return { 'follow', ms(n), ms(per), 0, 0 }
end
local n, per, changed = watch()
local since = ms(now - alive)
local bundles = redis.call('ZCOUNT', bundlers_key(), since, '+inf') >= redis.call('ZCOUNT', tag .. ':workers', since, '+inf')
local out = { 'lead', ms(n), ms(per), bundles and 1 or 0, #changed }
for _, change in ipairs(changed) do out[#out + 1] = change end
redis.call('SET', leader_key, process, 'PX', lease)
local target = math.min(math.max(tonumber(min_queued), math.ceil(ahead * n / per)), tonumber(max_queued))
local room = math.min(target - redis.call('ZCOUNT', queued_key('b'), '-inf', ms(now)), max_fed)
local work = 0
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
