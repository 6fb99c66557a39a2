-- lua/memo.lua
local CONNECT_TIMEOUT, MAX_WAIT, NAME, RAMP_AFTER, account_key, batch_key, clear_probe, clock_stepped, queued_key, ANSWER_TIMEOUT, LANE, MAX_DRIFT, MAX_PAUSE, NEW_HEADER, RAMP_TIME, REFUSAL_TTL, abandon_probe, attempt_is_over, learn_latency, load_header, load_readable, record_key, remove_call, remove_refusal, require_fields, REFUSED_PAUSE, change_state, conclude_probe, count_outcome, enqueue, header_of_new, is_new, is_probe, move, parse_header, refusal, store_gate, store_refusal, turn_ref, update_refusal, RANK, count, read_gate, record_change, FIRST_PAUSE, second, CALLS, close_for, close_reason, dirty, expected, changes, HEADER, memo, refusal_key, throttled, header, tag, clock, now, set, ms, gate do
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
LANE = { i = 'interactive', b = 'bulk' }
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
-- lua/clock_step.lua
end do
expected, MAX_DRIFT = 0, 500
function clock_stepped() return expected > 0 and math.abs(now - expected) > MAX_DRIFT end
local function clock_jumped_ahead() return expected > 0 and now - expected > MAX_DRIFT end
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
local function format_header(h)
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
local function read_header(raw)
  local h
  if is_new(raw) then h = header_of_new(string.match(raw, STRICT_NEW_COLUMNS)) else h = header(string.match(raw, STRICT_COLUMNS)) end
  if h then return h end
  return nil, string.match(raw, '^[12n]') and 'poison' or 'newer'
end
function load_readable(id)
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
local function next_turn(h) h.turn = (h.turn + 1) % 10000 end
function enqueue(h, id)
  move(h, 'q')
  next_turn(h)
  redis.call('ZADD', queued_key(h.lane), ms(now), id)
end
-- lua/liveness.lua
end do
function attempt_is_over(h, id, unbroken, dead)
  if clock_stepped() then unbroken = 0 end
  local heartbeat = tonumber(redis.call('ZSCORE', tag .. ':workers', h.holder) or 0)
  if math.abs(now - heartbeat) > dead then return unbroken >= dead end
  return math.abs(heartbeat - h.changed) > dead
    and redis.call('SISMEMBER', tag .. ':handlers:' .. h.holder, turn_ref(id, h)) == 0
end
-- admission/gate_state.lua
end do
local us = clock[1] * 1000000 + clock[2]
second = math.floor(us / 1000000)
local GATE = tag .. ':gate'
local WAITER_TTL, MAX_UNLOGGED = 250, 50
local HISTORY_TIME, MIN_HISTORY, MAX_HISTORY = 3600000, 50, 8000
local MAX_UNOBSERVED, OBSERVE_EVERY = 1000, 200
CONNECT_TIMEOUT, ANSWER_TIMEOUT, MAX_WAIT = 10000, 75000, 1000
RAMP_TIME, RAMP_AFTER = 5000, 10000
REFUSED_PAUSE, REFUSAL_TTL = { first = 60000, max = 600000 }, 86400000
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
function record_change(state, reason, at)
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
-- admission/calls.lua
end do
CALLS = tag .. ':calls'
local function call_name(process, id, nonce) return process .. ' ' .. id .. ' ' .. nonce end
local function is_granted(process, id, nonce)
  return nonce ~= '' and redis.call('ZSCORE', CALLS, call_name(process, id, nonce)) ~= false
end
function remove_call(process, id, nonce, began)
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
function clear_probe() set('prober', '') set('probe', '') set('sent', 0) set('by', 0) end
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
-- admission/gate_outcomes.lua
end do
local function open_gate()
  local ramp = now - gate.closed > RAMP_AFTER and gate.n * 1000 >= 2 * gate.per
  set('opened', now) set('answered', now) set('row', '') set('last', '') set('pause', 0) set('next', 0)
  change_state(ramp and 'ramping' or 'open', '', now)
end
function throttled(from_probe, retry_after)
  if from_probe or close_reason() == '' then set('throttles', gate.throttles + 1) end
  local wait = math.min(MAX_PAUSE.throttled, FIRST_PAUSE.throttled * 2 ^ math.min(10, math.max(0, math.floor(gate.throttles) - 1)))
  if retry_after > 0 then wait = math.min(600000, math.max(1000, retry_after)) end
  close_for('throttled', from_probe, wait)
end
function count_outcome(good, id)
  set('last', string.sub(gate.last .. (good and 's' or 'f'), -20))
  if good then set('row', '') return end
  local row = {}
  for other in string.gmatch(gate.row, '[^\n]+') do
    row[#row + 1] = other
    if other == id then id = nil end
  end
  row[#row + 1] = id
  set('row', table.concat(row, '\n'))
  local _, faults = string.gsub(gate.last, 'f', '')
  if #row >= 5 or faults >= 14 then close_for('outage', false) end
end
function learn_latency(latency)
  if latency <= 0 then return end
  if gate.usual == 0 then set('usual', latency)
  elseif latency > gate.usual then set('usual', math.min(latency, gate.usual * 1.05))
  else set('usual', gate.usual * 0.9995) end
end
function is_probe(id, process)
  return gate.prober ~= '' and gate.prober == process and gate.probe == id
end
local function probe_failed(may_have_made_link)
  if may_have_made_link or close_reason() ~= 'outage' then close_for('outage', true)
  else set('next', math.max(gate.next, now + FIRST_PAUSE.outage)) end
end
function conclude_probe(signal, retry_after)
  clear_probe()
  if signal == 'success' or signal == 'alive' then open_gate()
  elseif signal == 'throttle' then throttled(true, retry_after)
  elseif signal == 'none' then set('next', now + gate.pause)
  elseif signal == 'back' or signal == 'refused' then set('next', now)
  elseif signal == 'unavailable' or signal == 'unconnected' then probe_failed(false)
  elseif signal == 'outage' or signal == 'no_token' then probe_failed(true)
  else close_for(signal, true) end
end
-- admission/refusal.lua
end do
function refusal_key(credential) return tag .. ':refused:' .. credential end
function remove_refusal(credential)
  local rest = {}
  for other in string.gmatch(gate.refused, '%S+') do
    if other ~= credential then rest[#rest + 1] = other end
  end
  set('refused', table.concat(rest, ' '))
end
function refusal(credential)
  if gate.refused == '' then return nil end
  if not string.find(' ' .. gate.refused .. ' ', ' ' .. credential .. ' ', 1, true) then return nil end
  local v = redis.call('HMGET', refusal_key(credential), 'since', 'pause', 'next', 'prober', 'id', 'by')
  if v[1] then
    local since, pause, next, by = tonumber(v[1]), tonumber(v[2]), tonumber(v[3]), tonumber(v[6])
    if next > now + pause then next = now end -- further ahead than possible: the clock went back
    if by > now + ANSWER_TIMEOUT then by = 0 end
    return { since = math.min(since, now), pause = pause, next = next, prober = v[4], id = v[5], by = by }
  end
  remove_refusal(credential)
end
function store_refusal(credential, r)
  redis.call('HSET', refusal_key(credential), 'since', ms(r.since), 'pause', ms(r.pause), 'next', ms(r.next),
    'prober', r.prober, 'id', r.id, 'by', ms(r.by))
  if r.message then redis.call('HSET', refusal_key(credential), 'message', r.message, 'message_at', ms(now)) end
  redis.call('PEXPIRE', refusal_key(credential), REFUSAL_TTL)
end
-- admission/refusal_outcomes.lua
end do
local function add_refusal(credential, began, message)
  local cleared = redis.call('HGET', refusal_key(credential), 'cleared')
  if cleared and tonumber(cleared) > began and tonumber(cleared) <= now then return end
  redis.call('DEL', refusal_key(credential))
  store_refusal(credential, { since = now, pause = REFUSED_PAUSE.first, next = now + REFUSED_PAUSE.first, prober = '', id = '', by = 0, message = message })
  set('refused', gate.refused == '' and credential or gate.refused .. ' ' .. credential)
  record_change('closed', 'refused', now)
end
function update_refusal(signal, id, process, credential, began, message)
  local r = refusal(credential)
  if not r then
    if signal == 'refused' then add_refusal(credential, began, message) end
    return
  end
  local good = signal == 'success' or signal == 'alive'
  if good and began >= r.since then
    remove_refusal(credential)
    redis.call('DEL', refusal_key(credential))
    redis.call('HSET', refusal_key(credential), 'cleared', ms(now))
    redis.call('PEXPIRE', refusal_key(credential), REFUSAL_TTL)
    record_change('open', 'refused', now)
  elseif r.prober == process and r.id == id then
    if signal == 'refused' then
      r.pause = math.min(REFUSED_PAUSE.max, r.pause * 2)
      r.message = message
    end
    r.next = signal == 'back' and now or now + r.pause
    r.prober, r.id, r.by = '', '', 0
    store_refusal(credential, r)
  end
end
-- admission/signals.lua
end do
local SIGNAL_FIELDS = { 'state', 'reason', 'looked', 'answered', 'usual', 'throttles', 'good', 'refused', 'prober', 'opened', 'row', 'last' }
local NO_ANSWER = { outage = true, unavailable = true, none = true, back = true, unconnected = true, no_token = true }
local WITH_MESSAGE = { outage = true, unavailable = true, throttle = true, refused = true, no_credit = true, limit_reached = true,
  unconnected = true, no_token = true }
local function report_signal(signal, id, process, nonce, credential, began, retry_after, latency, message)
  began, retry_after, latency = tonumber(began), tonumber(retry_after), tonumber(latency)
  read_gate(SIGNAL_FIELDS)
  if nonce then remove_call(process, id, nonce, began) end
  if not NO_ANSWER[signal] then set('answered', now) end
  if signal == 'success' or signal == 'alive' then
    learn_latency(latency)
    set('throttles', math.max(0, gate.throttles - 0.25))
    set('good', credential) -- only for the status
  elseif signal == 'refused' then
    set('good', '') -- likewise: nobody may use the good credentials any more
  end
  if not WITH_MESSAGE[signal] or message == '' then message = nil end
  update_refusal(signal, id, process, credential, began, message)
  if message and (began >= gate.opened or is_probe(id, process)) then
    gate.message, gate.message_at, dirty.message, dirty.message_at = message, now, true, true
  end
  if is_probe(id, process) then
    conclude_probe(signal, retry_after)
  elseif began >= gate.opened then
    if signal == 'throttle' then throttled(false, retry_after)
    elseif signal == 'no_credit' or signal == 'limit_reached' then close_for(signal, false)
    elseif close_reason() ~= '' then -- a call that was sent before it closed shows nothing new
    elseif signal == 'outage' or signal == 'unavailable' then count_outcome(false, id)
    elseif signal == 'success' or signal == 'alive' then count_outcome(true, id) end
  end
end
function abandon_probe(id, process)
  read_gate(SIGNAL_FIELDS)
  if is_probe(id, process) then conclude_probe('none') end
  for credential in string.gmatch(gate.refused, '%S+') do update_refusal('none', id, process, credential, 0) end
end
-- ledger/lost_calls.lua
end
local unbroken, dead, skip, max, expected_time = unpack(ARGV)
expected = tonumber(expected_time)
local calls = tag .. ':calls'
local page = redis.call('ZRANGE', calls, skip, skip + max - 1)
local out, kept = { '' }, tonumber(skip)
for _, call in ipairs(page) do
  local process, id = string.match(call, '^(%S+) (%S+)')
  local h, why = load_readable(id)
  if why == 'poison' or not why and not (h and h.state == 'c' and h.holder == tonumber(process)) then
    redis.call('ZREM', calls, call)
  else
    kept = kept + 1
    if h and attempt_is_over(h, id, tonumber(unbroken), tonumber(dead)) then
      abandon_probe(id, process)
      out[#out + 1], out[#out + 2] = LANE[h.lane], turn_ref(id, h)
    end
  end
end
store_gate()
if #page == tonumber(max) then out[1] = ms(kept) end
return out
