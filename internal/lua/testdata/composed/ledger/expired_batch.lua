-- lua/memo.lua
local ENDED, NEW_HEADER, load_header, load_readable, next_chunk, batch_key, header_of_new, is_new, parse_header, record_key, order_key, clock, batch_deadlines_key, HEADER, memo, now, ms, tag, header do
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
local function account_key() return ACCOUNT end
function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
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
local NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
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
-- lua/batch_order.lua
end do
function order_key(batch) return tag .. ':order:' .. batch end
-- lua/batch_chunks.lua
end do
local MAX_MISSING = 16
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
-- lua/batch_deadlines.lua
end do
function batch_deadlines_key() return tag .. ':batch-deadlines' end
-- ledger/expired_batch.lua
end
local later = '(' .. ms(now + 60000)
local ahead = redis.call('ZCOUNT', batch_deadlines_key(), later, '+inf')
if ahead > 0 then
  local from = now % math.max(1, ahead - 9)
  for _, n in ipairs(redis.call('ZRANGEBYSCORE', batch_deadlines_key(), later, '+inf', 'LIMIT', ms(from), 10)) do
    if tonumber(redis.call('HGET', batch_key(n), 'not_after') or now + 1) <= now then
      redis.call('ZADD', batch_deadlines_key(), ms(now), n)
    end
  end
end
local batch = redis.call('ZRANGEBYSCORE', batch_deadlines_key(), '-inf', ms(now), 'LIMIT', 0, 1)[1]
if not batch then return { '' } end
local key = batch_key(batch)
local number, chunk = next_chunk(batch, tonumber(redis.call('HGET', key, 'late') or '0'), 500)
if not number and chunk then
  redis.call('HSET', key, 'late', chunk)
  return { '1' }
elseif not number then
  local open = 0
  for _, n in ipairs(redis.call('HMGET', key, 'waiting', 'queued', 'calling', 'held')) do open = open + tonumber(n or 0) end
  redis.call('HDEL', key, 'late')
  if open > 0 then redis.call('ZADD', batch_deadlines_key(), ms(now + 60000), batch)
  else redis.call('ZREM', batch_deadlines_key(), batch) end
  return { '1' }
end
redis.call('HSET', key, 'late', number + 1)
local out = { '1' }
for id in string.gmatch(chunk, '\n%d+ ([^\n]+)') do
  local h = load_readable(id)
  if h and h.batch == tonumber(batch) and h.state ~= 'c' and not ENDED[h.state] and h.deadline == '-' then
    out[#out + 1], out[#out + 2] = id, redis.call('GET', record_key(id))
  end
end
return out
