-- lua/memo.lua
local ENDED, deadlines_key, list_ended, numbered_key, queued_key, NAME, UNUSED_FOR, batch_names_key, count_possible_duplicates, free_numbers_key, list_for_operator, load_header, may_be_empty, old_key, requeue, unlist_for_operator, batch_key, batch_number, parse_header, record_key, account_key, count, format_header, now, clock, memo, header, ms, tag do
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
function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
function account_key() return ACCOUNT end
function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
function queued_key(lane) return QUEUED[lane] end
function deadlines_key() return tag .. ':deadlines' end
-- lua/record.lua
end do
local HEADER, NEW_HEADER = 74, 20
NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
ENDED = { C = true, F = true, X = true }
local HEADER_COLUMNS = '^([12])(.)(.)(.)(...)(...)(....)(.....)(..)(....)(......)(..........)(.............)(.............)(......)(.)'
local NEW_COLUMNS = '^n(......)(.............)'
local function is_new(raw) return string.sub(raw, 1, 1) == 'n' end
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
local function header_of_new(batch, accepted)
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
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/counters.lua
end do
function count(batch, state, n)
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
-- lua/feeding.lua
end do
local function running_key() return tag .. ':running' end
local function requeued_key(batch) return tag .. ':again:' .. batch end
local last_served
local function schedule_feed(batch)
  last_served = last_served or redis.call('HGET', account_key(), 'served') or '0'
  redis.call('ZADD', running_key(), 'NX', last_served, batch)
end
function requeue(batch, id)
  redis.call('RPUSH', requeued_key(batch), id)
  schedule_feed(batch)
end
-- lua/batch_names.lua
end do
function batch_names_key() return tag .. ':batches' end
function numbered_key() return tag .. ':numbered' end
function free_numbers_key() return tag .. ':free-numbers' end
-- lua/batch_empty.lua
end do
local function perhaps_empty_key() return tag .. ':perhaps-empty' end
UNUSED_FOR = 86400000
function may_be_empty(batch, at)
  if tonumber(batch) > 0 then redis.call('ZADD', perhaps_empty_key(), ms(at or now), batch) end
end
-- lua/batch_number.lua
end do
local function new_number()
  if tonumber(redis.call('HGET', account_key(), 'batches') or '0') < 999999 then
    return redis.call('HINCRBY', account_key(), 'batches', 1)
  end
  local free = redis.call('ZRANGEBYSCORE', free_numbers_key(), '-inf', ms(now - 86400000), 'LIMIT', 0, 1)[1]
  if not free then
    error('the account has 999999 batches, the most that it can have; forget some: they are deleted within a day, and their numbers are free a day later', 0)
  end
  redis.call('ZREM', free_numbers_key(), free)
  return tonumber(free)
end
function batch_number(name)
  local number = redis.call('HGET', batch_names_key(), name)
  if not number then
    number = new_number()
    redis.call('HSET', batch_names_key(), name, number)
    redis.call('ZADD', numbered_key(), number, number)
    redis.call('HSET', batch_key(number), 'name', name, 'created_at', ms(now), 'cursor', 0)
    may_be_empty(number, now + UNUSED_FOR)
  end
  return tonumber(number)
end
-- lua/duplicates.lua
end do
function count_possible_duplicates(batch, n)
  redis.call('HINCRBY', batch_key(batch), 'possible_duplicates', n)
  redis.call('HINCRBY', account_key(), 'possible_duplicates', n)
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
-- ledger/restore.lua
end
local batch = unpack(ARGV, 1, 1)
local number, restored = batch_number(batch), 0
local function count_duplicates(h)
  if h.dups > 0 then count_possible_duplicates(number, h.dups) end
end
local function restore(id, h, raw, not_after)
  local latest = load_header(id)
  if latest and latest.gen == h.gen then return end
  restored = restored + 1
  if ENDED[h.state] then list_ended(id, h.changed) end
  if latest and latest.gen > h.gen then
    if redis.call('SETNX', old_key(h.gen, id), raw) == 1 then count_duplicates(h) end
    return
  end
  if latest then
    unlist_for_operator(latest, id)
    redis.call('RENAME', record_key(id), old_key(latest.gen, id))
    count(number, latest.state, -1)
  end
  redis.call('SET', record_key(id), raw)
  count(number, h.state, 1)
  count_duplicates(h)
  list_for_operator(h, id)
  if h.deadline == 'd' then redis.call('ZADD', deadlines_key(), not_after, id) end
  if h.state == 'w' then requeue(number, id) end
  if h.state == 'q' then redis.call('ZADD', queued_key(h.lane), 0, id) end
end
for i = 2, #ARGV, 3 do
  local id, raw, not_after = unpack(ARGV, i, i + 2)
  local h = parse_header(raw)
  h.batch = number
  restore(id, h, format_header(h) .. string.sub(raw, h.length + 1), not_after)
end
return restored
