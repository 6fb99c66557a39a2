-- lua/memo.lua
local NAME, order_key, queued_key, NEW_HEADER, backlog_refusal, batch_refusal, joined_key, mention_rows, new_header, new_record, store_chunk, stored_records, account_key, batch_key, batch_row, schedule_feed, count, parse_header, record_key, requeue, format_header, clock, HEADER, memo, ms, now, header, tag do
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
local function load_header(id)
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
-- tasks/accepting.lua
end do
function batch_refusal(batch)
  if batch == 0 then return nil end
  local is = redis.call('HMGET', batch_key(batch), 'status', 'name')
  if is[1] == 'cancelled' then return { -1 } end
  if not is[2] then return { -3 } end
end
local function backlog(lane)
  local n = redis.call('ZCARD', queued_key(lane))
  if lane == 'b' then n = n + tonumber(redis.call('HGET', account_key(), 'waiting') or '0') end
  return n
end
function backlog_refusal(new, max)
  max = tonumber(max)
  if not max then return nil end
  local room, full = {}, false
  for lane, n in pairs(new) do
    room[lane] = n > 0 and math.max(0, max - backlog(lane)) or 0
    full = full or n > room[lane]
  end
  if full then return { -2, ms(room.i), ms(room.b) } end
end
function new_header(lane, gen, deadline, batch)
  if lane == 'b' and gen == 1 and deadline == '-' then return string.format('n%06d%013.0f', batch, now) end
  return format_header({
    version = '2', state = lane == 'i' and 'q' or 'w', lane = lane, flag = '-', gen = gen, run = 1, turn = lane == 'i' and 1 or 0,
    attempts = 0, charged = 0, dups = 0, batch = batch, seen = 0, accepted = now, changed = now, holder = 0, deadline = deadline,
  })
end
function new_record(head, content)
  local missing = HEADER - #head - #content
  if missing > 0 then content = '{' .. string.rep(' ', missing) .. string.sub(content, 2) end
  return head .. content
end
function stored_records(ok, keys)
  local out = { ok }
  for i, key in ipairs(keys) do out[i + 1] = redis.call('GET', key) or '' end
  return out
end
-- lua/feeding.lua
end do
local function running_key() return tag .. ':running' end
local function requeued_key(batch) return tag .. ':again:' .. batch end
local last_served
function schedule_feed(batch)
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
-- lua/batch_joined.lua
end do
function joined_key(batch) return tag .. ':joined:' .. batch end
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
local function mention_event(id, entry)
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
local function take_mentions(id)
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
function mention_rows(batch, chunk, text)
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
-- tasks/chunk.lua
end do
local function row_stays(batch, row, id)
  local raw = redis.call('GET', record_key(id))
  if not raw then return false end
  local readable, h = pcall(parse_header, raw)
  return not readable or h.batch == batch and batch_row(raw) == row -- or it is a newer version's
end
local function merged_rows(batch, text, before)
  local sorted, has = {}, {}
  local function add(row, id)
    has[id] = true
    sorted[#sorted + 1] = { row = tonumber(row), at = #sorted, text = row .. ' ' .. id .. '\n' }
  end
  for row, id in string.gmatch(text, '(%d+) ([^\n]+)') do add(row, id) end
  local given = #sorted
  for row, id in string.gmatch(before, '\n(%d+) ([^\n]+)') do
    if not has[id] and row_stays(batch, row, id) then add(row, id) end
  end
  if #sorted == given then return text end
  table.sort(sorted, function(a, b) return a.row < b.row or a.row == b.row and a.at < b.at end)
  for i, row in ipairs(sorted) do sorted[i] = row.text end
  return table.concat(sorted)
end
function store_chunk(batch, chunk, text, size, joined, waiting)
  if chunk == '' then
    for _, id in ipairs(waiting) do requeue(batch, id) end
    return
  end
  local order, key = order_key(batch), batch_key(batch)
  local before = redis.call('HGET', order, chunk)
  local at = redis.call('HMGET', key, 'cursor', 'last')
  local value = joined .. '\n' .. text
  if before ~= value and tonumber(size) > #waiting then
    text = mention_rows(batch, chunk, text)
    value = joined .. '\n' .. text
  end
  if before or tonumber(chunk) < tonumber(at[1] or '0') then
    for _, id in ipairs(waiting) do requeue(batch, id) end
  end
  if before and before ~= value then value = joined .. '\n' .. merged_rows(batch, text, before) end
  local last = math.max(tonumber(chunk), tonumber(at[2] or '-1'))
  redis.call('HSET', key, 'last', last, 'written', ms(now))
  if before == value then return end
  redis.call('HSET', order, chunk, value)
  joined = tonumber(joined)
  if joined > 0 then redis.call('HSET', joined_key(batch), chunk, joined)
  elseif before then redis.call('HDEL', joined_key(batch), chunk) end
  if before then
    joined = joined - tonumber(string.match(before, '^%d+'))
    for id in string.gmatch(before, '\n%d+ ([^\n]+)') do requeue(batch, id) end
  end
  if joined ~= 0 then redis.call('HINCRBY', key, 'joined', joined) end
  schedule_feed(batch)
end
-- tasks/accept_new.lua
end
local batch, chunk, chunk_rows, size, joined, max_backlog = unpack(ARGV, 1, 6)
batch = tonumber(batch)
local refusal = batch_refusal(batch)
if refusal then return refusal end
local ids, keys, writes, n = {}, {}, {}, 0
local head = new_header('b', 1, '-', batch)
for i = 7, #ARGV, 2 do
  local id, content = unpack(ARGV, i, i + 1)
  n = n + 1
  ids[n], keys[n] = id, record_key(id)
  writes[2 * n - 1], writes[2 * n] = keys[n], new_record(head, content)
end
if n > 0 then
  local full = backlog_refusal({ i = 0, b = n }, max_backlog)
  if full and redis.call('EXISTS', unpack(keys)) == 0 then return full end
  if redis.call('MSETNX', unpack(writes)) == 0 then return stored_records(0, keys) end
  count(batch, 'w', n)
end
store_chunk(batch, chunk, chunk_rows, size, joined, ids)
return { 2, ms(now) }
