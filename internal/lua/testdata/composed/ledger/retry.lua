-- lua/memo.lua
local ENDED, batch_key, list_ended, batch_row, conclude, deadlines_key, list_for_operator, minute_of, queued_key, requeue, add_mention, attempts_of, enqueue, now, record_key, unlist_for_operator, with_earlier, write_record, account_key, parse_header, count, format_header, sections, NAME, move, clock, memo, header, tag, ms do
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
function write_record(key, h, content, resolved, outcome, earlier)
  local head, raw = format_header(h), nil
  if earlier ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome .. '\n' .. earlier
  elseif outcome ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome
  elseif resolved ~= '' then raw = head .. content .. '\n' .. resolved
  else raw = head .. content end
  redis.call('SET', key, raw)
  return raw
end
function batch_row(raw) return string.match(sections(raw), '"ro?w?":(%d+)}$') end
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
-- lua/turn.lua
end do
local function turn_ref(id, h) return id .. ':' .. ms(h.gen) .. ':' .. ms(h.run) .. ':' .. ms(h.turn) end
local function next_turn(h) h.turn = (h.turn + 1) % 10000 end
function enqueue(h, id)
  move(h, 'q')
  next_turn(h)
  redis.call('ZADD', queued_key(h.lane), ms(now), id)
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
-- lua/ended.lua
end do
local function ended_minutes_key() return tag .. ':ended' end
local function ended_key(minute) return tag .. ':ended:' .. minute end
function minute_of(at) return ms(math.floor(at / 60000)) end
function list_ended(id, at)
  local minute = minute_of(at)
  redis.call('ZADD', ended_minutes_key(), minute, minute)
  redis.call('RPUSH', ended_key(minute), id)
end
local function unlist_ended(id, minute) redis.call('LREM', ended_key(minute), 1, id) end
-- lua/attempts.lua
end do
local MOST_ATTEMPTS = 10
function attempts_of(outcome) return string.match(outcome, ',"attempts":%[.*%]') or '' end
local function with_attempt(attempts, h, took, why, uncertain)
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
local function outcome_with_attempt(outcome, h, took, why, uncertain)
  local attempts = attempts_of(outcome)
  local before = outcome == '' and '{"run":' .. h.run or string.sub(outcome, 1, -2 - #attempts)
  return before .. with_attempt(attempts, h, took, why, uncertain) .. '}'
end
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
-- lua/mentions.lua
end do
local function mentions_key(id) return tag .. ':mentions:' .. string.sub(redis.sha1hex(id), 1, 4) end
function add_mention(id, mention)
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
-- ledger/retry.lua
end
local id, generation, run, attempts, lane, event_id, at, id_json, head, tail = unpack(ARGV)
local key = record_key(id)
local raw = redis.call('GET', key)
if not raw then return { 'stale', '', '' } end
local h = parse_header(raw)
if h.gen ~= tonumber(generation) or h.run ~= tonumber(run) or h.attempts ~= tonumber(attempts) or h.run >= 999 then
  return { 'stale', raw, '' }
end
if h.state ~= 'F' and h.state ~= 'h' then return { NAME[h.state], raw, '' } end
local content, resolved, outcome, earlier = sections(raw)
local link
for line in string.gmatch(earlier, '[^\n]+') do
  link = string.match(line, '^{"run":%d+,"status":"created"(,.-),"ended_at":"[^"]*","late_link":true}$') or link
end
if link and event_id == '' then return { 'late', raw, '' } end
earlier = with_earlier(earlier, outcome)
unlist_for_operator(h, id)
if h.state == 'F' then
  h.run = h.run + 1
  add_mention(id, 'm' .. minute_of(h.changed))
end
h.charged, h.seen, h.flag = 0, 0, '-'
if link then
  redis.call('HINCRBY', account_key(), 'ended:created', 1)
  conclude(id, key, format_header(h) .. content .. '\n' .. resolved .. '\n\n' .. earlier, h, 'C', {
    event = event_id, at = at, id_json = id_json, head = head, tail = tail, middle = link,
  }, link)
  return { NAME.C, redis.call('GET', key), '1' }
end
h.deadline = 'n'
redis.call('ZREM', deadlines_key(), id)
if lane ~= '' then h.lane = lane end
if h.lane == 'i' then
  enqueue(h, id)
else
  move(h, 'w')
  requeue(h.batch, id)
end
return { NAME[h.state], write_record(key, h, content, resolved, '', earlier), '1' }
