-- lua/memo.lua
local ENDED, cancelled_key, deadlines_key, delivery_key, order_key, pending_key, undelivered_key, NAME, NEW_HEADER, account_key, batch_key, deliveries_key, load_header, mention_event, queued_key, requeued_key, take_mentions, unlist_for_operator, batch_row, erase_earlier, header_of_new, is_new, may_be_empty, minute_of, now, old_key, read_header, count, unlist_ended, parse_header, record_key, clock, HEADER, memo, ms, header, tag do
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
function batch_row(raw) return string.match(sections(raw), '"ro?w?":(%d+)}$') end
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
local function list_for_operator(h, id)
  if LISTED[h.state] then redis.call('ZADD', operator_list_key(h.state), ms(h.changed), id) end
end
function unlist_for_operator(h, id)
  if LISTED[h.state] then redis.call('ZREM', operator_list_key(h.state), id) end
end
-- lua/batch_order.lua
end do
function order_key(batch) return tag .. ':order:' .. batch end
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
-- lua/batch_cancel.lua
end do
local function cancelling_key() return tag .. ':cancelling' end
function cancelled_key(batch) return tag .. ':off:' .. batch end
-- lua/delivery.lua
end do
function delivery_key(event) return tag .. ':delivery:' .. event end
function deliveries_key(id) return tag .. ':deliveries:' .. id end
function pending_key() return tag .. ':pending' end
function undelivered_key() return tag .. ':undelivered' end
-- lua/mentions.lua
end do
local function mentions_key(id) return tag .. ':mentions:' .. string.sub(redis.sha1hex(id), 1, 4) end
local function add_mention(id, mention)
  local key = mentions_key(id)
  local known = redis.call('HGET', key, id) or ''
  if string.find(known .. ' ', ' ' .. mention .. ' ', 1, true) then return end
  redis.call('HSET', key, id, known .. ' ' .. mention)
end
local trimmed_until
function mention_event(id, entry)
  if not trimmed_until then
    local first = redis.call('XRANGE', tag .. ':results', '-', '+', 'COUNT', 1)[1]
    trimmed_until = first and tonumber(string.match(first[1], '^%d+')) or math.huge
  end
  local function is_trimmed(id) return tonumber(string.match(id, '^%d+')) < trimmed_until end
  if is_trimmed(entry) then return end
  local key = mentions_key(id)
  local known = string.gsub(redis.call('HGET', key, id) or '', ' e(%S+)', function(other)
    if is_trimmed(other) or other == entry then return '' end
  end)
  redis.call('HSET', key, id, known .. ' e' .. entry)
end
function take_mentions(id)
  local key = mentions_key(id)
  local known = redis.call('HGET', key, id)
  if not known then return '' end
  redis.call('HDEL', key, id)
  return known
end
local function is_own_row(raw, batch, row)
  local readable, h = pcall(parse_header, raw)
  return readable and h.batch == tonumber(batch) and batch_row(raw) == row
end
local function mention_rows(batch, chunk, text)
  local gone = 0
  text = string.gsub(text, '(%d+) ([^\n]+)\n', function(row, id)
    local raw = redis.call('GET', record_key(id))
    if not raw then
      gone = gone + 1
      return row .. '\n'
    end
    if not is_own_row(raw, batch, row) then add_mention(id, 'r' .. batch .. '.' .. chunk) end
  end)
  return text, gone
end
-- lua/ended.lua
end do
local function ended_minutes_key() return tag .. ':ended' end
local function ended_key(minute) return tag .. ':ended:' .. minute end
function minute_of(at) return ms(math.floor(at / 60000)) end
local function list_ended(id, at)
  local minute = minute_of(at)
  redis.call('ZADD', ended_minutes_key(), minute, minute)
  redis.call('RPUSH', ended_key(minute), id)
end
function unlist_ended(id, minute) redis.call('LREM', ended_key(minute), 1, id) end
-- lua/batch_empty.lua
end do
local function perhaps_empty_key() return tag .. ':perhaps-empty' end
local UNUSED_FOR = 86400000
function may_be_empty(batch, at)
  if tonumber(batch) > 0 then redis.call('ZADD', perhaps_empty_key(), ms(at or now), batch) end
end
-- erasure/erasing.lua
end do
local with_events = false
local function erase_from_chunk(batch, n, id)
  local order = order_key(batch)
  local text, removed = redis.call('HGET', order, n), 0
  if not text then return 0 end
  local needle = ' ' .. id .. '\n'
  local at = string.find(text, needle, 1, true)
  while at do
    text = string.sub(text, 1, at - 1) .. string.sub(text, at + #needle - 1)
    removed = removed + 1
    at = string.find(text, needle, at, true)
  end
  if removed > 0 then redis.call('HSET', order, n, text) end
  return removed
end
local MAX_SEARCHED, searched = 20000, 0
local function erase_requeued(batch, id)
  local removed = 0
  for _, list in ipairs({ requeued_key(batch), cancelled_key(batch) }) do
    local n = redis.call('LLEN', list)
    searched = searched + n
    if n > 0 and searched > MAX_SEARCHED then
      redis.call('SADD', tag .. ':unsearched', batch)
    elseif n > 0 then
      for _, at in ipairs(redis.call('LPOS', list, id, 'COUNT', 0)) do
        redis.call('LSET', list, at, '')
        removed = removed + 1
      end
    end
  end
  return removed
end
local function erase_event(entry, id)
  local found = redis.call('XRANGE', tag .. ':results', entry, entry)[1]
  if not found then return 0 end
  for i = 1, #found[2], 2 do
    if found[2][i] == 'application_id' and found[2][i + 1] == id then
      return redis.call('XDEL', tag .. ':results', entry)
    end
  end
  return 0
end
local ENTRY = '"entry":"(%d+%-%d+)"' -- in a record
local function erase_events(text, pattern, id)
  local removed = 0
  if not with_events then return removed end
  for entry in string.gmatch(text, pattern) do removed = removed + erase_event(entry, id) end
  return removed
end
local function erase_mentions(id, batch, row)
  local mentions = take_mentions(id)
  local rows, batches = 0, { [batch] = true }
  if row > 0 then rows = erase_from_chunk(batch, math.floor((row - 1) / 100), id) end
  for other, chunk in string.gmatch(mentions, ' r(%d+)%.(%d+)') do
    rows = rows + erase_from_chunk(other, chunk, id)
    may_be_empty(other)
    batches[tonumber(other)] = true
  end
  for minute in string.gmatch(mentions, ' m(%d+)') do unlist_ended(id, minute) end
  for other in pairs(batches) do rows = rows + erase_requeued(other, id) end
  return rows, erase_events(mentions, ' e(%d+%-%d+)', id)
end
local function erase_from_gate(id)
  local fields = redis.call('HMGET', tag .. ':gate', 'probe', 'row', 'refused')
  if fields[1] == id then redis.call('HSET', tag .. ':gate', 'prober', '', 'probe', '', 'sent', 0, 'by', 0) end
  for credential in string.gmatch(fields[3] or '', '%S+') do
    local key = tag .. ':refused:' .. credential
    if redis.call('HGET', key, 'id') == id then redis.call('HSET', key, 'prober', '', 'id', '', 'by', 0) end
  end
  if not fields[2] or not string.find('\n' .. fields[2] .. '\n', '\n' .. id .. '\n', 1, true) then return end
  local others = {}
  for other in string.gmatch(fields[2], '[^\n]+') do
    if other ~= id then others[#others + 1] = other end
  end
  redis.call('HSET', tag .. ':gate', 'row', table.concat(others, '\n'))
end
local function erase_generations(id, gen)
  local generations, removed = 0, 0
  for g = 1, gen - 1 do
    local raw = redis.call('GET', old_key(g, id))
    if raw then
      local readable, h = pcall(parse_header, raw)
      if readable then unlist_ended(id, minute_of(h.changed)) end
      removed = removed + erase_events(raw, ENTRY, id)
      generations = generations + redis.call('DEL', old_key(g, id))
    end
  end
  return generations, removed
end
local function erase_deliveries(id)
  for _, event in ipairs(redis.call('LRANGE', deliveries_key(id), 0, -1)) do
    redis.call('DEL', delivery_key(event))
    redis.call('ZREM', undelivered_key(), event)
    redis.call('ZREM', pending_key(), event)
  end
  redis.call('DEL', deliveries_key(id))
end
local function erase(id, h, listed)
  if listed then unlist_ended(id, minute_of(h.changed)) end
  local raw = redis.call('GET', record_key(id))
  redis.call('DEL', record_key(id))
  local generations, earlier = erase_generations(id, h.gen)
  local rows, replayed = erase_mentions(id, h.batch, tonumber(batch_row(raw) or '0'))
  count(h.batch, h.state, -1)
  redis.call('HINCRBY', batch_key(h.batch), 'erased', 1)
  may_be_empty(h.batch)
  unlist_for_operator(h, id)
  redis.call('ZREM', queued_key('i'), id)
  redis.call('ZREM', queued_key('b'), id)
  redis.call('ZREM', deadlines_key(), id)
  redis.call('SREM', tag .. ':newer', id)
  erase_from_gate(id)
  erase_deliveries(id)
  return 1 + generations, rows, erase_events(raw, ENTRY, id) + earlier + replayed
end
function erase_earlier(id, generation, ended_by)
  local key = old_key(generation, id)
  local raw = redis.call('GET', key)
  local h = raw and read_header(raw)
  if not h or not ENDED[h.state] or h.changed > ended_by then return end
  for entry in string.gmatch(raw, ENTRY) do mention_event(id, entry) end
  redis.call('DEL', key)
end
-- erasure/erase_earlier.lua
end
local ended_by = unpack(ARGV, 1, 1)
for i = 2, #ARGV, 2 do
  local id, generation = unpack(ARGV, i, i + 1)
  erase_earlier(id, generation, tonumber(ended_by))
end
return 1
