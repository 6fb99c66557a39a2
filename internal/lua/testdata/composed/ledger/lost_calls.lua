-- lua/keys.lua
local tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local function account_key() return tag .. ':account' end
local function batch_key(number) return tag .. ':batch:' .. number end
local function queued_key(lane) return tag .. ':queued:' .. LANE[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/clock.lua
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function ms(n) return string.format('%.0f', n) end
-- lua/clock_step.lua
local expected, MAX_DRIFT = 0, 500
local function clock_stepped() return expected > 0 and math.abs(now - expected) > MAX_DRIFT end
local function clock_jumped_ahead() return expected > 0 and now - expected > MAX_DRIFT end
-- lua/record.lua
local HEADER = 74
local NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
local ENDED = { C = true, F = true, X = true }
local function parse_header(raw)
  if string.sub(raw, 1, 1) ~= '1' then error('record of an unknown version', 0) end
  local function n(i, j) return tonumber(string.sub(raw, i, j)) end
  return {
    state = string.sub(raw, 2, 2), lane = string.sub(raw, 3, 3), flag = string.sub(raw, 4, 4),
    gen = n(5, 7), run = n(8, 10), turn = n(11, 14), attempts = n(15, 19), charged = n(20, 21),
    dups = n(22, 25), batch = n(26, 31), seen = n(32, 41), accepted = n(42, 54), changed = n(55, 67),
    holder = n(68, 73), deadline = string.sub(raw, 74, 74),
  }
end
local function format_header(h)
  local raw = string.format('1%s%s%s%03d%03d%04d%05d%02d%04d%06d%010d%013.0f%013.0f%06d%s',
    h.state, h.lane, h.flag, h.gen, h.run, h.turn, math.min(h.attempts, 99999), math.min(h.charged, 99),
    math.min(h.dups, 9999), h.batch, math.min(h.seen, 9999999999), h.accepted, h.changed, h.holder, h.deadline)
  if #raw ~= HEADER then error('a number is too large for its column in the header ' .. raw, 0) end
  return raw
end
local function load_header(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if #raw < HEADER then return nil end
  return parse_header(raw)
end
local function save_header(key, h)
  local columns = format_header(h)
  redis.call('SETRANGE', key, 0, columns)
  return columns
end
local function sections(raw)
  local out, from = {}, HEADER + 1
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
  local raw = format_header(h) .. content
  if earlier ~= '' then raw = raw .. '\n' .. resolved .. '\n' .. outcome .. '\n' .. earlier
  elseif outcome ~= '' then raw = raw .. '\n' .. resolved .. '\n' .. outcome
  elseif resolved ~= '' then raw = raw .. '\n' .. resolved end
  redis.call('SET', key, raw)
  return raw
end
local function batch_row(raw) return string.match(sections(raw), '"row":(%d+)}$') end
-- lua/readable.lua
local COLUMNS = '^1[wqchCFX][ib][%-x]' .. string.rep('%d', 69) .. '[%-dn]'
local function unreadable(raw)
  if string.sub(raw, 1, 1) ~= '1' then return 'newer' end
  if not string.find(raw, COLUMNS) then return 'poison' end
end
local function load_readable(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if raw == '' then return nil end
  local why = unreadable(raw)
  if why then return nil, why end
  return parse_header(raw)
end
-- lua/counters.lua
local function count(batch, state, n)
  redis.call('HINCRBY', batch_key(batch), NAME[state], n)
  if state == 'w' then redis.call('HINCRBY', account_key(), 'waiting', n) end
end
local function move(h, state, counts)
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
local function turn_ref(id, h) return id .. ':' .. h.gen .. ':' .. h.run .. ':' .. h.turn end
local function next_turn(h) h.turn = (h.turn + 1) % 10000 end
local function enqueue(h, id)
  move(h, 'q')
  next_turn(h)
  redis.call('ZADD', queued_key(h.lane), ms(now), id)
end
-- lua/liveness.lua
local function attempt_is_over(h, id, unbroken, dead)
  if clock_stepped() then unbroken = 0 end
  local heartbeat = tonumber(redis.call('ZSCORE', tag .. ':workers', h.holder) or 0)
  if math.abs(now - heartbeat) > dead then return unbroken >= dead end
  return math.abs(heartbeat - h.changed) > dead
    and redis.call('SISMEMBER', tag .. ':handlers:' .. h.holder, turn_ref(id, h)) == 0
end
-- ledger/lost_calls.lua
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
      out[#out + 1], out[#out + 2] = LANE[h.lane], turn_ref(id, h)
    end
  end
end
if #page == tonumber(max) then out[1] = ms(kept) end
return out
