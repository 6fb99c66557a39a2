-- ledger/buffer.lua
local MAX_UNLOGGED, MAX_UNOBSERVED, OBSERVE_EVERY, RAMP_AFTER, clear_probe, clock_jumped_ahead, clock_stepped, list_ended, old_key, store_counts, LANE, MAX_DRIFT, MAX_PAUSE, NEW_HEADER, REFUSAL_TTL, admit_by_rate, admit_call, attempt_is_over, calls_hang, count_possible_duplicates, count_refused, deadlines_key, in_retry_pause, infos, learn_latency, list_for_operator, load_header, observe, outcome_with_attempt, probe_gate, read_records, remove_refusal, replace_header, requeued_key, require_fields, send_collected, set_link_kind, turn_ref, unlist_for_operator, CONNECT_TIMEOUT, RAMP_TIME, REFUSED_PAUSE, change_state, conclude_probe, count_outcome, earliest_grant, header_of_new, is_granted, is_new, is_probe, link_kind, read_header, remove_call, save_header, stop_field, take_token, update_refusal, with_attempt, with_earlier, ENDED, RANK, USED, WAITER_TTL, admit, attempts_of, batch_key, call_name, conclude, counts_of, record_change, report_signal, settle_bucket, store_gate, ANSWER_TIMEOUT, FIRST_PAUSE, batch_info, count_uncertain, expired, held_grants, max_ahead, read_gate, refusal, store_refusal, dirty, expected, parse_header, record_key, write_record, close_for, close_reason, members, pushed, queued_key, CALLS, HEADER, MAX_WAIT, batch_counts, increments, memo, refusal_key, second, throttled, account_key, changes, count, sections, NAME, move, us, fault, kind, header, created, records, changed, tag, clock, set, ms, now, call, gate local redis = redis do
local server = redis
records, changed, members, increments, pushed = {}, {}, {}, {}, {}
local function send_record(key)
  if changed[key] then server.call('SET', key, records[key]) end
  records[key], changed[key] = nil, nil
end
local function send_members(key)
  local add, remove = {}, {}
  for member, score in pairs(members[key]) do
    if score then add[#add + 1], add[#add + 2] = score, member else remove[#remove + 1] = member end
  end
  members[key] = nil
  if #add > 0 then server.call('ZADD', key, unpack(add)) end
  if #remove > 0 then server.call('ZREM', key, unpack(remove)) end
end
local function send_increments(key)
  for field, n in pairs(increments[key]) do server.call('HINCRBY', key, field, n) end
  increments[key] = nil
end
local function send_pushed(key)
  server.call('RPUSH', key, unpack(pushed[key]))
  pushed[key] = nil
end
local function set_member(key, member, score)
  if not members[key] then members[key] = {} end
  members[key][member] = score
end
local COLLECTED = {
  GET = function(key)
    if records[key] == nil then records[key] = server.call('GET', key) end
    return true, records[key]
  end,
  SET = function(key, raw, option)
    if option then return false end
    records[key], changed[key] = raw, true
    return true
  end,
  SETRANGE = function(key, offset, text)
    if offset ~= 0 or not records[key] then return false end
    records[key], changed[key] = text .. string.sub(records[key], #text + 1), true
    return true
  end,
  ZADD = function(key, score, member, more)
    if more or not tonumber(score) then return false end
    set_member(key, member, score)
    return true
  end,
  ZREM = function(key, member, more)
    if more then return false end
    set_member(key, member, false)
    return true
  end,
  HINCRBY = function(key, field, n)
    if not increments[key] then increments[key] = {} end
    increments[key][field] = (increments[key][field] or 0) + n
    return true
  end,
  RPUSH = function(key, value, more)
    if more then return false end
    if not pushed[key] then pushed[key] = {} end
    table.insert(pushed[key], value)
    return true
  end,
}
function call(command, key, ...)
  local collect = COLLECTED[command]
  if collect then
    local done, reply = collect(key, ...)
    if done then return reply end
  end
  if key then
    send_record(key)
    if members[key] then send_members(key) end
    if increments[key] then send_increments(key) end
    if pushed[key] then send_pushed(key) end
    return server.call(command, key, ...)
  end
  return server.call(command)
end
redis = { call = call }
function read_records(keys)
  for i, raw in ipairs(server.call('MGET', unpack(keys))) do
    if raw then records[keys[i]] = raw end -- otherwise GET fails if the key is no string
  end
end
function send_collected()
  local written = {}
  for key in pairs(changed) do written[#written + 1], written[#written + 2] = key, records[key] end
  if #written > 0 then server.call('MSET', unpack(written)) end
  changed = {}
  for key in pairs(members) do send_members(key) end
  for key in pairs(increments) do send_increments(key) end
  for key in pairs(pushed) do send_pushed(key) end
end
-- lua/memo.lua
end do
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
function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
function account_key() return ACCOUNT end
function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
function queued_key(lane) return QUEUED[lane] end
function deadlines_key() return tag .. ':deadlines' end
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
function clock_jumped_ahead() return expected > 0 and now - expected > MAX_DRIFT end
-- admission/gate_state.lua
end do
us = clock[1] * 1000000 + clock[2]
second = math.floor(us / 1000000)
local GATE = tag .. ':gate'
WAITER_TTL, MAX_UNLOGGED = 250, 50
local HISTORY_TIME, MIN_HISTORY, MAX_HISTORY = 3600000, 50, 8000
MAX_UNOBSERVED, OBSERVE_EVERY = 1000, 200
CONNECT_TIMEOUT, ANSWER_TIMEOUT, MAX_WAIT = 10000, 75000, 1000
RAMP_TIME, RAMP_AFTER = 5000, 10000
REFUSED_PAUSE, REFUSAL_TTL = { first = 60000, max = 600000 }, 86400000
FIRST_PAUSE = { outage = 5000, throttled = 1000, no_credit = 60000, limit_reached = 60000 }
MAX_PAUSE = { outage = 60000, throttled = 60000, no_credit = 600000, limit_reached = 600000 }
RANK = { outage = 1, throttled = 1, no_credit = 2, limit_reached = 2 }
local DEFAULT = { n = 5, per = 1000, burst = 5, level = 0, at = 0, since = 0, closed = 0, opened = 0, next = 0, pause = 0,
  sent = 0, by = 0, throttles = 0, answered = 0, looked = 0, usual = 0, ['line:interactive'] = 0, ['line:bulk'] = 0, asked = 0 }
USED = 'used:' .. second % 11
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
-- lua/record.lua
end do
HEADER, NEW_HEADER = 74, 20
NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
ENDED = { C = true, F = true, X = true }
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
function save_header(key, h)
  local columns = format_header(h)
  if h.length == HEADER then
    redis.call('SETRANGE', key, 0, columns)
  else
    redis.call('SET', key, columns .. redis.call('GETRANGE', key, h.length, -1))
    h.length = HEADER
  end
  return columns
end
function replace_header(key, h, raw)
  raw = format_header(h) .. string.sub(raw, h.length + 1)
  h.length = HEADER
  redis.call('SET', key, raw)
  return raw
end
function sections(raw)
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
function write_record(key, h, content, resolved, outcome, earlier)
  local head, raw = format_header(h), nil
  if earlier ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome .. '\n' .. earlier
  elseif outcome ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome
  elseif resolved ~= '' then raw = head .. content .. '\n' .. resolved
  else raw = head .. content end
  redis.call('SET', key, raw)
  return raw
end
local function batch_row(raw) return string.match(sections(raw), '"ro?w?":(%d+)}$') end
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
-- lua/batch_stop.lua
end do
function stop_field(batch) return 'batch:' .. batch end
-- ledger/commit_state.lua
end do
infos, kind, counts_of = {}, nil, {}
function batch_info(batch)
  local known = infos[batch]
  if not known then
    local own = redis.call('HMGET', batch_key(batch), 'options', 'not_after', 'name', 'trace')
    known = { stop = redis.call('HGET', account_key(), stop_field(batch)), options = own[1], not_after = own[2], name = own[3] or '', trace = own[4] }
    infos[batch] = known
  end
  return known
end
function link_kind()
  if kind == nil then kind = redis.call('HGET', account_key(), 'upstream') end
  return kind
end
function set_link_kind(first)
  redis.call('HSET', account_key(), 'upstream', first)
  kind = first
end
function batch_counts(batch)
  counts_of[batch] = counts_of[batch] or {}
  return counts_of[batch]
end
function store_counts()
  for batch, states in pairs(counts_of) do
    for state, n in pairs(states) do
      if n ~= 0 then count(batch, state, n) end
    end
  end
end
local MAX_REFUSED = 20
function count_refused(batch, message)
  local key = batch_key(batch)
  local at = redis.call('HMGET', key, 'refused', 'refused_at', 'created', 'status')
  local created = ms(tonumber(at[3] or '0') + (batch_counts(batch).C or 0))
  local n = at[2] == created and tonumber(at[1] or '0') + 1 or 1
  redis.call('HSET', key, 'refused', n, 'refused_at', created)
  if n < MAX_REFUSED or at[4] then return false end
  redis.call('HSET', key, 'status', 'paused', 'reason', 'rows_refused', 'message', message)
  redis.call('HSET', account_key(), stop_field(batch), 'paused')
  batch_info(batch).stop = 'paused'
  return true
end
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
-- lua/deadline.lua
end do
function expired(h, id, batch_not_after)
  local due = false
  if h.deadline == 'd' then due = redis.call('ZSCORE', deadlines_key(), id)
  elseif h.deadline == '-' and h.batch > 0 then due = batch_not_after end
  return due and tonumber(due) <= now
end
-- lua/retry_pause.lua
end do
local MAX_RETRY_PAUSE = 3660000
function in_retry_pause(h, due)
  return due > now and h.changed <= now and due <= h.changed + MAX_RETRY_PAUSE
end
-- lua/feeding.lua
end do
local function running_key() return tag .. ':running' end
function requeued_key(batch) return tag .. ':again:' .. batch end
local last_served
local function schedule_feed(batch)
  last_served = last_served or redis.call('HGET', account_key(), 'served') or '0'
  redis.call('ZADD', running_key(), 'NX', last_served, batch)
end
local function requeue(batch, id)
  redis.call('RPUSH', requeued_key(batch), id)
  schedule_feed(batch)
end
-- lua/duplicates.lua
end do
function count_possible_duplicates(batch, n)
  redis.call('HINCRBY', batch_key(batch), 'possible_duplicates', n)
  redis.call('HINCRBY', account_key(), 'possible_duplicates', n)
end
-- lua/uncertain.lua
end do
function count_uncertain(h)
  h.dups = h.dups + 1
  count_possible_duplicates(h.batch, 1)
end
-- lua/attempts.lua
end do
local MOST_ATTEMPTS = 10
function attempts_of(outcome) return string.match(outcome, ',"attempts":%[.*%]') or '' end
function with_attempt(attempts, h, took, why, uncertain)
  local entry = '{"n":' .. h.attempts .. ',"at":' .. ms(h.changed)
  if took ~= '' then entry = entry .. ',"took":' .. took end
  entry = entry .. why
  if uncertain == '1' then entry = entry .. ',"uncertain":true' end
  entry = entry .. '}'
  if attempts == '' then return ',"attempts":[' .. entry .. ']' end
  local _, count = string.gsub(attempts, '{"n":', '')
  if count >= MOST_ATTEMPTS then attempts = string.gsub(attempts, '%[.-},{"n":', '[{"n":', 1) end
  return string.sub(attempts, 1, -2) .. ',' .. entry .. ']'
end
function outcome_with_attempt(outcome, h, took, why, uncertain)
  local attempts = attempts_of(outcome)
  local before = outcome == '' and '{"run":' .. h.run or string.sub(outcome, 1, -2 - #attempts)
  return before .. with_attempt(attempts, h, took, why, uncertain) .. '}'
end
-- lua/turn.lua
end do
function turn_ref(id, h) return id .. ':' .. ms(h.gen) .. ':' .. ms(h.run) .. ':' .. ms(h.turn) end
local function next_turn(h) h.turn = (h.turn + 1) % 10000 end
local function enqueue(h, id)
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
-- admission/calls.lua
end do
CALLS = tag .. ':calls'
function call_name(process, id, nonce) return process .. ' ' .. id .. ' ' .. nonce end
function is_granted(process, id, nonce)
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
-- admission/rate.lua
end do
local function token_time()
  local part = 1
  if gate.state == 'ramping' then part = 0.1 + 0.9 * math.min(1, math.max(0, now - gate.opened) / RAMP_TIME) end
  return gate.per * 1000 / (gate.n * part)
end
function max_ahead() return math.min(20000, math.max(5000, token_time())) end
function held_grants()
  local out = {}
  if gate.held == '' then return out end
  for at in string.gmatch(gate.held, '%d+') do out[#out + 1] = tonumber(at) end
  return out
end
local function set_held_grants(times)
  local out = {}
  for i, at in ipairs(times) do out[i] = ms(at) end
  set('held', table.concat(out, ' '))
end
local function refilled(level, elapsed, per) return math.min(gate.burst, level + elapsed / per) end
local settled = false
function settle_bucket()
  if settled then return end
  settled = true
  if gate.at == 0 or gate.at > us or clock_jumped_ahead() then
    set('level', math.min(0, gate.level) - #held_grants()) set('at', us) set('held', '')
    return
  end
  local per, level, at, rest = token_time(), gate.level, gate.at, {}
  for _, s in ipairs(held_grants()) do
    if s <= us then level, at = refilled(level, s - at, per) - 1, s else rest[#rest + 1] = s end
  end
  set('level', refilled(level, us - at, per))
  set('at', us)
  set_held_grants(rest)
end
local function fits(times, i, level, at, s, per)
  level, at = refilled(level, s - at, per) - 1, s
  for j = i + 1, #times do
    level, at = refilled(level, times[j] - at, per) - 1, times[j]
    if level < 0 then return false end
  end
  return true
end
function earliest_grant(goal, times, from)
  local per, level, at = token_time(), gate.level, gate.at
  for i = 0, #times do
    if i > 0 then level, at = refilled(level, times[i] - at, per) - 1, times[i] end
    if i >= from then
      local s = at + math.ceil(math.max(0, goal - level) * per)
      if i == #times then return s, i end
      if s <= times[i + 1] and fits(times, i, level, at, s, per) then return s, i end
    end
  end
end
local used
local function count_used()
  if not used then
    local sec, count = string.match(gate[USED], '(%d+) (%d+)')
    used = tonumber(sec) == second and tonumber(count) or 0
  end
  used = used + 1
  set(USED, ms(second) .. ' ' .. ms(used))
end
function take_token(s, i, times)
  if s <= us then
    set('level', gate.level - 1)
  else
    table.insert(times, i + 1, s)
    set_held_grants(times)
  end
  count_used()
  return (s - us) / 1000
end
local function waiters_key(lane) return tag .. ':line:' .. lane end
local function waiters(lane)
  local out, stale = {}, false
  if gate['line:' .. lane] < now then return out end
  local entries = redis.call('ZRANGE', waiters_key(lane), 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local due = tonumber(entries[i + 1])
    if due + WAITER_TTL >= now then out[#out + 1] = { entries[i], due } else stale = true end
  end
  if stale then redis.call('ZREMRANGEBYSCORE', waiters_key(lane), '-inf', '(' .. ms(now - WAITER_TTL)) end
  return out
end
local function add_waiter(lane, process, due)
  redis.call('ZADD', waiters_key(lane), ms(due), process)
  set('line:' .. lane, math.max(gate['line:' .. lane], due + WAITER_TTL))
end
function admit_by_rate(lane, process)
  settle_bucket()
  local need, times, from, place, own = 1, held_grants(), 0, 0, nil
  if lane == 'bulk' then need, from = 2 + #waiters('interactive'), #times end
  for _, waiter in ipairs(waiters(lane)) do
    if waiter[1] == process then own = waiter[2] break end
    place = place + 1
  end
  local goal = math.max(need, math.min(need + place, gate.burst))
  local s, i = earliest_grant(goal, times, from)
  if goal <= gate.burst and s - us <= max_ahead() then
    if own then redis.call('ZREM', waiters_key(lane), process) end
    return 'grant', take_token(s, i, times), ''
  end
  local due = s + (need + place - goal) * token_time()
  local wait = math.min(MAX_WAIT, math.max(1, (due - us - max_ahead()) / 1000))
  local listed = own and math.max(own, math.ceil(now + wait)) or math.ceil(due / 1000)
  if listed ~= own then add_waiter(lane, process, listed) end
  return 'wait', wait, 'rate'
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
-- admission/gate_probe.lua
end do
function probe_gate(lane, process, id, connected)
  local chosen = gate.prober == process and gate.sent == 0
  local busy = gate.prober ~= '' and gate.by > now
  if lane == 'interactive' then set('asked', now) end
  if not (chosen and connected) then
    if chosen and busy and gate.probe == id then return 'connect', 0, gate.reason end
    if busy then return 'wait', MAX_WAIT, gate.reason end
    if now < gate.next then return 'wait', math.min(MAX_WAIT, gate.next - now), gate.reason end
    if lane == 'bulk' and now - gate.asked < MAX_WAIT + WAITER_TTL then return 'wait', MAX_WAIT, gate.reason end
  end
  settle_bucket()
  local times = held_grants()
  local s, i = earliest_grant(1, times, 0)
  if s - us > max_ahead() then
    return 'wait', math.min(MAX_WAIT, math.max(1, (s - us - max_ahead()) / 1000)), gate.reason
  end
  set('prober', process) set('probe', id)
  if chosen and connected then
    set('sent', 1) set('by', now + ANSWER_TIMEOUT)
    return 'probe', take_token(s, i, times), gate.reason
  end
  set('sent', 0) set('by', now + CONNECT_TIMEOUT)
  return 'connect', 0, gate.reason
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
-- admission/admission.lua
end do
local function decide(lane, process, credential, id, nonce, connected)
  if gate.reason == 'paused' then return 'wait', MAX_WAIT, 'paused' end
  observe()
  if calls_hang() then close_for('outage', false) end
  local r = refusal(credential)
  if r and now < r.next then return 'wait', math.min(MAX_WAIT, r.next - now), 'refused' end
  local own = r and r.prober == process and r.id == id
  if r and r.by > now and not (own and r.by <= now + CONNECT_TIMEOUT) then return 'wait', MAX_WAIT, 'refused' end
  if r and not (own and connected) then
    r.prober, r.id, r.by = process, id, now + CONNECT_TIMEOUT
    store_refusal(credential, r)
    return 'connect', 0, 'refused'
  end
  local verdict, wait, reason
  if gate.state == 'closed' then
    verdict, wait, reason = probe_gate(lane, process, id, connected)
  else
    verdict, wait, reason = admit_by_rate(lane, process)
  end
  if verdict ~= 'grant' and verdict ~= 'probe' then return verdict, wait, reason end
  redis.call('ZADD', CALLS, ms(now), call_name(process, id, nonce))
  if not r then return verdict, wait, reason end
  r.prober, r.id, r.by = process, id, now + ANSWER_TIMEOUT
  store_refusal(credential, r)
  return 'probe', wait, 'refused'
end
local ADMISSION_FIELDS = { 'state', 'reason', 'looked', 'answered', 'usual', 'refused', 'n', 'per', 'burst', 'level', 'at', 'held',
  'line:interactive', 'line:bulk', USED }
function admit_call(lane, process, credential, id, nonce, connected)
  read_gate(ADMISSION_FIELDS)
  local verdict, wait, reason = decide(lane, process, credential, id, nonce, tonumber(connected) == 1)
  return verdict, wait == 0 and '0' or string.format('%.3f', wait), reason
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
function report_signal(signal, id, process, nonce, credential, began, retry_after, latency, message)
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
local function abandon_probe(id, process)
  read_gate(SIGNAL_FIELDS)
  if is_probe(id, process) then conclude_probe('none') end
  for credential in string.gmatch(gate.refused, '%S+') do update_refusal('none', id, process, credential, 0) end
end
-- ledger/admit.lua
end do
local function resolved_settings(h, defaults)
  local options = h.batch > 0 and batch_info(h.batch).options
  if not options then return defaults end
  local all = cjson.decode(defaults)
  for key, value in pairs(cjson.decode(options)) do all[key] = value end
  all.not_after = nil -- it is read from the batch each time
  return cjson.encode(all)
end
function admit(id, generation, run, turn, process, credential, kind, defaults, unbroken, dead, nonce, connected,
    hold_uncertain)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return { 'stale', '', '0', '' } end
  local h, why = read_header(raw)
  if not h then return { why, '', '0', '' } end
  if h.gen ~= tonumber(generation) or h.run ~= tonumber(run) or h.turn ~= tonumber(turn) then return { 'stale', raw, '0', '' } end
  if h.state ~= 'q' and h.state ~= 'c' then return { 'stale', raw, '0', '' } end
  local has, batch = link_kind(), batch_info(h.batch)
  if has and has ~= kind then return { 'upstream', raw, '0', '' } end
  local own = h.state == 'c' and h.holder == tonumber(process)
  if own and is_granted(process, id, nonce) then return { 'granted', raw, '0', '' } end
  if h.state == 'c' then
    local over = own or attempt_is_over(h, id, tonumber(unbroken), tonumber(dead))
    if not over then return { 'busy', raw, '0', '' } end
    if hold_uncertain == '1' and h.flag ~= 'x' then return { 'dead', raw, '0', '' } end
    count_uncertain(h)
    report_signal('none', id, ms(h.holder), '', credential, h.changed, 0, 0)
    local content, resolved, outcome, earlier = sections(raw)
    outcome = outcome_with_attempt(outcome, h, '', '', '1')
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now), id)
    raw = write_record(key, h, content, resolved, outcome, earlier)
  elseif h.attempts > 0 then
    local due = tonumber(redis.call('ZSCORE', queued_key(h.lane), id) or 0)
    if due >= now + 1000 and in_retry_pause(h, due) then return { 'early', raw, ms(due - now), '' } end
  end
  local verdict, wait, reason = 'expired', '0', ''
  if h.flag == 'x' then verdict = 'cancel'
  elseif expired(h, id, batch.not_after) then -- also if its batch is paused
  elseif batch.stop == 'cancelled' then verdict = 'cancel'
  elseif batch.stop == 'paused' and h.lane == 'b' then verdict = 'paused'
  elseif h.attempts > 0 and string.find(select(4, sections(raw)), ',"kept":"', 1, true) then
    verdict, reason = 'kept', ms(now)
  else
    verdict, wait, reason = admit_call(LANE[h.lane], process, credential, id, nonce, connected)
  end
  local content, resolved, outcome, earlier = sections(raw)
  if verdict == 'grant' or verdict == 'probe' then
    move(h, 'c', batch_counts(h.batch))
    h.attempts, h.holder = h.attempts + 1, tonumber(process)
    redis.call('ZREM', queued_key(h.lane), id)
    if resolved == '' then
      return { verdict, write_record(key, h, content, resolved_settings(h, defaults), outcome, earlier), wait, reason, batch.name, batch.trace or nil }
    end
  elseif verdict == 'paused' then
    move(h, 'w', batch_counts(h.batch))
    redis.call('ZREM', queued_key('b'), id)
    redis.call('LPUSH', requeued_key(h.batch), id)
  else
    return { verdict, raw, wait, reason }
  end
  return { verdict, replace_header(key, h, raw), wait, reason, batch.name, batch.trace or nil }
end
-- lua/operator_lists.lua
end do
local LISTED = { F = true, h = true }
local function operator_list_key(state) return tag .. ':' .. NAME[state] end
function list_for_operator(h, id)
  if LISTED[h.state] then redis.call('ZADD', operator_list_key(h.state), ms(h.changed), id) end
end
function unlist_for_operator(h, id)
  if LISTED[h.state] then redis.call('ZREM', operator_list_key(h.state), id) end
end
-- lua/ended.lua
end do
local function ended_minutes_key() return tag .. ':ended' end
local function ended_key(minute) return tag .. ':ended:' .. minute end
local function minute_of(at) return ms(math.floor(at / 60000)) end
function list_ended(id, at)
  local minute = minute_of(at)
  redis.call('ZADD', ended_minutes_key(), minute, minute)
  redis.call('RPUSH', ended_key(minute), id)
end
local function unlist_ended(id, minute) redis.call('LREM', ended_key(minute), 1, id) end
-- lua/outcome.lua
end do
local function publish(kind, id, event, at, h, id_json, head, middle, tail)
  return redis.call('XADD', tag .. ':results', '*',
    'id', event, 'type', kind, 'timestamp', at, 'application_id', id,
    'data', '{"application_id":' .. id_json .. ',"generation":' .. ms(h.gen) .. ',"run":' .. ms(h.run) .. head
      .. middle .. ',"attempts":' .. ms(h.attempts) .. ',"possible_duplicates":' .. ms(h.dups) .. tail .. '}')
end
local EVENT_TYPE = { C = 'link.created', F = 'link.failed', X = 'link.cancelled', h = 'link.held' }
function with_earlier(earlier, outcome)
  if earlier == '' then return outcome end
  return earlier .. '\n' .. outcome
end
function conclude(id, key, raw, h, state, e, fields, counts, attempts)
  if h.state == 'q' then redis.call('ZREM', queued_key(h.lane), id) end
  unlist_for_operator(h, id)
  if state ~= 'h' and h.deadline == 'd' then
    redis.call('ZREM', deadlines_key(), id)
    h.deadline = '-'
  end
  local content, resolved, before, earlier = sections(raw)
  if h.state == 'h' and before ~= '' then
    earlier, before = with_earlier(earlier, before), ''
  end
  move(h, state, counts)
  if state == 'F' or state == 'X' then redis.call('HINCRBY', account_key(), 'ended:' .. NAME[state], 1) end
  list_for_operator(h, id)
  h.flag = '-'
  local entry = publish(EVENT_TYPE[state], id, e.event, e.at, h, e.id_json, e.head, e.middle, e.tail)
  local outcome = '{"run":' .. ms(h.run) .. ',"status":"' .. NAME[state] .. '"' .. fields
    .. (attempts or attempts_of(before)) .. ',"ended_at":"' .. e.at .. '","entry":"' .. entry .. '"}'
  write_record(key, h, content, resolved, outcome, earlier)
  if ENDED[state] then list_ended(id, now) end
end
-- ledger/created.lua
end do
function created(id, generation, run, attempt, process, nonce, credential, began, latency, kind,
    event_id, at, id_json, head, tail, link, kept)
  generation, run = tonumber(generation), tonumber(run)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return 'gone' end
  local h = parse_header(raw)
  if h.gen ~= generation then
    key = old_key(generation, id)
    raw = redis.call('GET', key)
    if not raw then return 'gone' end
    h = parse_header(raw)
  end
  local has = link_kind()
  if has and has ~= kind then return 'upstream' end
  if not has then set_link_kind(kind) end
  if h.run ~= run and not ENDED[h.state] then return 'run:' .. h.run end
  if kept ~= '1' then report_signal('success', id, process, nonce, credential, began, 0, latency) end
  if ENDED[h.state] then
    local content, resolved, outcome, earlier = sections(raw)
    if string.find(raw, link, HEADER + 1, true) then return NAME[h.state] == 'created' and 'created' or 'late' end
    earlier = with_earlier(earlier, '{"run":' .. run .. ',"status":"created"' .. link .. ',"ended_at":"' .. at .. '","late_link":true}')
    write_record(key, h, content, resolved, outcome, earlier)
    return 'late'
  end
  if h.state == 'c' and (h.holder ~= tonumber(process) or h.attempts ~= tonumber(attempt)) then
    remove_call(ms(h.holder), id, '', h.changed)
    count_uncertain(h)
  end
  if tonumber(attempt) > h.attempts then h.attempts = tonumber(attempt) end -- Redis lost its start
  redis.call('HINCRBY', account_key(), kept == '1' and 'ended:created' or 'successes', 1)
  conclude(id, key, raw, h, 'C', {
    event = event_id, at = at, id_json = id_json, head = head, tail = tail, middle = link,
  }, kept == '1' and link or link .. ',"took":' .. latency, batch_counts(h.batch))
  return 'created'
end
-- ledger/fault.lua
end do
local function record_lost_start(key, h, attempt, uncertain)
  local calling = h.state == 'c' and h.attempts == attempt -- another call of that number
  if ENDED[h.state] or not calling and attempt <= h.attempts then return end
  if uncertain == '1' then count_uncertain(h) end
  if h.state ~= 'c' then h.attempts = attempt end
  save_header(key, h)
end
function fault(id, generation, run, attempt, process, nonce, credential, latency, signal, charged_signal,
    retry_after, message, action, chargeable, uncertain, max_charged, delay, event_id, held_event_id, at, id_json,
    head, tail, reason, expired_reason, kept)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return 'stale' end
  local h = parse_header(raw)
  if h.gen ~= tonumber(generation) or h.run ~= tonumber(run) then return 'stale' end
  local unsent, attempt = action == 'back', tonumber(attempt)
  local current = h.attempts == attempt
  if h.state == 'c' then current = current and h.holder == tonumber(process) end
  if unsent and h.state == 'c' then current = current and is_granted(process, id, nonce) end
  if not current then
    if unsent and h.state == 'q' and h.attempts == attempt - 1 then return NAME.q end -- recorded before
    if not unsent then record_lost_start(key, h, attempt, uncertain) end
    return 'stale'
  end
  if h.state ~= 'c' and not (h.state == 'q' and signal == '') then return NAME[h.state] end
  local began = h.changed
  if uncertain == '1' then count_uncertain(h) end
  local successes = tonumber(redis.call('HGET', account_key(), 'successes') or '0')
  if unsent then
    h.attempts = h.attempts - 1
  elseif chargeable == '1' then
    if h.charged > 0 or (h.seen > 0 and successes + 1 > h.seen) then
      h.charged = h.charged + 1
      signal = charged_signal
    end
    h.seen = successes + 1
  end
  if signal ~= '' then report_signal(signal, id, process, nonce, credential, began, retry_after, latency, message) end
  local state, fields = 'q', reason
  if h.flag == 'x' then state, fields = 'X', ',"reason":"cancelled"'
  elseif action == 'fail' then state = 'F'
  elseif action == 'hold' then state = 'h'
  elseif expired(h, id, batch_info(h.batch).not_after) then state, fields = 'F', expired_reason
  elseif not unsent and h.charged >= tonumber(max_charged) then state = 'F' end
  if state == 'q' and unsent then
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now), id)
    save_header(key, h)
    return NAME.q
  end
  local content, resolved, outcome, earlier = sections(raw)
  local attempts = attempts_of(outcome)
  if not unsent and signal ~= '' then
    attempts = with_attempt(attempts, h, nonce == '' and '' or latency, reason, uncertain)
  end
  if state == 'q' then
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now + tonumber(delay)), id)
    write_record(key, h, content, resolved, '{"run":' .. h.run .. fields .. attempts .. '}', earlier)
    return NAME.q
  end
  conclude(id, key, raw, h, state, {
    event = state == 'h' and held_event_id or event_id, at = at, id_json = id_json,
    head = head, tail = tail, middle = fields,
  }, fields .. kept, batch_counts(h.batch), attempts)
  if action == 'fail' and h.batch > 0 and count_refused(h.batch, message) then return NAME[state] .. '+paused' end
  return NAME[state]
end
-- ledger/commit.lua
end
redis.call('SETRANGE', KEYS[1], 0, '')
local expected_time = unpack(ARGV, 1, 1)
expected = tonumber(expected_time)
local transitions = { admit = admit, created = created, fault = fault }
local needed, i = {}, 2
while i < #ARGV do
  needed[#needed + 1] = record_key(ARGV[i + 2]) -- the first argument of each transition is the id
  i = i + 2 + ARGV[i + 1]
end
read_records(needed)
local replies, failed, why = {}, 0, nil
i = 2
while i < #ARGV do
  local name, last = ARGV[i], i + 1 + ARGV[i + 1]
  local ok, reply = pcall(transitions[name], unpack(ARGV, i + 2, last))
  if ok then
    replies[#replies + 1] = { 1, reply }
  else
    failed, why = failed + 1, reply
    replies[#replies + 1] = { 0, type(reply) == 'table' and reply.err or reply }
  end
  i = last + 1
end
store_gate()
store_counts()
send_collected()
if failed == #replies then error(why, 0) end
return replies
