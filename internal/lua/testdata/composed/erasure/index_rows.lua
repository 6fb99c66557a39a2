-- lua/memo.lua
local order_key, batch_row, may_be_empty, mention_rows, now, record_key, parse_header, clock, ms, memo, tag do
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
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/batch_order.lua
end do
function order_key(batch) return tag .. ':order:' .. batch end
-- lua/record.lua
end do
local HEADER, NEW_HEADER = 74, 20
local NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
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
local function header(version, state, lane, flag, gen, run, turn, attempts, charged, dups, batch, seen, accepted, changed, holder, deadline)
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
local function format_header(h)
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
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/batch_empty.lua
end do
local function perhaps_empty_key() return tag .. ':perhaps-empty' end
local UNUSED_FOR = 86400000
function may_be_empty(batch, at)
  if tonumber(batch) > 0 then redis.call('ZADD', perhaps_empty_key(), ms(at or now), batch) end
end
-- erasure/index_rows.lua
end
local batch = unpack(ARGV, 1, 1)
local order, removed = order_key(batch), 0
for i = 2, #ARGV do
  local chunk = unpack(ARGV, i, i)
  local text = redis.call('HGET', order, chunk)
  if text then
    local left, gone = mention_rows(batch, chunk, text)
    if gone > 0 then redis.call('HSET', order, chunk, left) end
    removed = removed + gone
  end
end
if removed > 0 then may_be_empty(batch) end
return removed
