-- lua/memo.lua
local deliveries_key, delivery_key, old_key, pending_key, batch_key, now, record_key, header_length, clock, parse_header, sections, ms, memo, tag do
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
local HEADER, NEW_HEADER = 74, 20
local NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
local ENDED = { C = true, F = true, X = true }
local HEADER_COLUMNS = '^([12])(.)(.)(.)(...)(...)(....)(.....)(..)(....)(......)(..........)(.............)(.............)(......)(.)'
local NEW_COLUMNS = '^n(......)(.............)'
local function is_new(raw) return string.sub(raw, 1, 1) == 'n' end
function header_length(raw) return is_new(raw) and NEW_HEADER or HEADER end
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
-- lua/delivery.lua
end do
function delivery_key(event) return tag .. ':delivery:' .. event end
function deliveries_key(id) return tag .. ':deliveries:' .. id end
function pending_key() return tag .. ':pending' end
local function undelivered_key() return tag .. ':undelivered' end
-- delivery/open_deliveries.lua
end
local function url_of(json, key)
  if not string.find(json, '"' .. key .. '"', 1, true) then return nil end
  local ok, all = pcall(cjson.decode, json)
  return ok and all[key]
end
local function content_trace(content) return string.match(content, '"t":"([%w_-]+)"[,"r:%d]*}$') end
local traces = {}
local function batch_trace(batch)
  if traces[batch] == nil then traces[batch] = redis.call('HGET', batch_key(batch), 'trace') end
  return traces[batch]
end
local function callback_url(id, gen)
  local raw = redis.call('GET', record_key(id))
  if not raw or #raw < header_length(raw) then return nil end
  local h = parse_header(raw)
  if h.gen ~= gen then
    raw = redis.call('GET', old_key(gen, id))
    if not raw then return nil end
    h = parse_header(raw)
  end
  local content, resolved = sections(raw)
  local url = url_of(content, h.version == '1' and 'callback_url' or 'c') or url_of(resolved, 'callback_url')
  if not url and h.batch > 0 then url = url_of(redis.call('HGET', batch_key(h.batch), 'options') or '', 'callback_url') end
  if not url then return nil end
  return url, h.batch, content_trace(content) or h.batch > 0 and batch_trace(h.batch) or nil
end
local out = {}
for i = 1, #ARGV, 6 do
  local event_id, id, generation, run, type, body = unpack(ARGV, i, i + 5)
  local key = delivery_key(event_id)
  local known = redis.call('HMGET', key, 'status', 'host', 'attempts')
  local status, host, attempts = known[1] or '', known[2] or '', known[3] or '0'
  if status == '' then
    local url, batch, trace = callback_url(id, tonumber(generation))
    if url then
      status, host = 'pending', string.lower(string.match(url, '^%a+://([^/?#]*)') or '')
      redis.call('HSET', key, 'application_id', id, 'generation', generation, 'run', run, 'type', type,
        'body', body, 'batch', batch, 'url', url, 'host', host, 'status', status, 'created_at', ms(now),
        'attempts', 0, 'tries', 0)
      if trace then redis.call('HSET', key, 'trace', trace) end
      redis.call('RPUSH', deliveries_key(id), event_id)
      redis.call('ZADD', pending_key(), ms(now), event_id)
    end
  end
  out[#out + 1], out[#out + 2], out[#out + 3] = status, host, attempts
end
return out
