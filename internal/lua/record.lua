-- The record of a request: a header of fixed columns, then up to four sections,
-- separated by newlines: content, resolved settings, outcome, and earlier outcomes (one
-- line each).
--
-- The header, columns from 1 (numbers are decimal, padded with zeros):
--    1 version: '1' or '2'   2 state   3 lane    4 'x': cancel requested, else '-'
--    5 generation (3)   8 run (3)   11 turn (4)   15 attempts (5)
--   20 charged attempts (2)   22 possible duplicates (4)   26 batch (6)
--   32 successes of the account when an attempt last failed, plus one (10)
--   42 accepted at, ms (13)   55 changed at, ms (13)   68 process that holds it (6)
--   74 'd': has its own not_after, kept in the deadlines; 'n': has none, and its batch's
--      does not apply, since a person retried it; else '-': its batch's applies
-- State: w waiting, q queued, c calling, h held, C created, F failed, X cancelled.
--
-- The versions differ in the keys of the content only: see internal/request. In version 2, a
-- request of which millions may wait has a shorter header, until its first change: a bulk
-- request of generation 1 that waits since it was accepted, without a not_after of its own.
--    1 'n'   2 batch (6)   8 accepted at, ms (13)
--
-- uses: memo, keys
local HEADER, NEW_HEADER = 74, 20

local NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
local ENDED = { C = true, F = true, X = true }

local HEADER_COLUMNS = '^([12])(.)(.)(.)(...)(...)(....)(.....)(..)(....)(......)(..........)(.............)(.............)(......)(.)'
local NEW_COLUMNS = '^n(......)(.............)'

local function is_new(raw) return string.sub(raw, 1, 1) == 'n' end

local function header_length(raw) return is_new(raw) and NEW_HEADER or HEADER end

-- NUMBER has the numbers of columns. Adding 0 to a column would make a number of it as well,
-- but an octal one in the Lua of the embedded Redis.
local NUMBER = memo(tonumber)

-- DIGITS[width][n] is the column of a number, in more digits if it is too large for the width.
local DIGITS = memo(function(width)
  local format = '%0' .. width .. '.0f'
  return memo(function(n) return string.format(format, n) end)
end)

-- header and header_of_new make a header of its columns, nil if there are none.
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

-- parse_header parses a header. It fails on a record of another version, before the script
-- changes anything.
local function parse_header(raw)
  return is_new(raw) and header_of_new(string.match(raw, NEW_COLUMNS)) or header(string.match(raw, HEADER_COLUMNS))
    or error('record of an unknown version', 0)
end

-- format_header formats the columns. Counters stop at the end of their columns, and turns wrap.
-- Processes have numbers below a million. A generation, run or batch that would be too
-- large is refused before.
local function format_header(h)
  local raw = h.version .. h.state .. h.lane .. h.flag .. DIGITS[3][h.gen] .. DIGITS[3][h.run] .. DIGITS[4][h.turn]
    .. DIGITS[5][math.min(h.attempts, 99999)] .. DIGITS[2][math.min(h.charged, 99)] .. DIGITS[4][math.min(h.dups, 9999)]
    .. DIGITS[6][h.batch] .. DIGITS[10][math.min(h.seen, 9999999999)] .. DIGITS[13][h.accepted] .. DIGITS[13][h.changed]
    .. DIGITS[6][h.holder] .. h.deadline
  if #raw ~= HEADER then error('a number is too large for its column in the header ' .. raw, 0) end
  return raw
end

-- load_header reads the header of an id's latest generation, or nil.
local function load_header(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if #raw < header_length(raw) then return nil end
  return parse_header(raw)
end

-- save_header writes a header over the one that is stored, from which h was parsed.
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

-- replace_header stores a record with another header, and returns it.
local function replace_header(key, h, raw)
  raw = format_header(h) .. string.sub(raw, h.length + 1)
  h.length = HEADER
  redis.call('SET', key, raw)
  return raw
end

-- sections returns the content, resolved settings, outcome and earlier outcomes of a
-- record; '' for each that is absent.
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

-- write_record stores and returns a whole record. Empty sections at the end are left out.
local function write_record(key, h, content, resolved, outcome, earlier)
  local head, raw = format_header(h), nil
  if earlier ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome .. '\n' .. earlier
  elseif outcome ~= '' then raw = head .. content .. '\n' .. resolved .. '\n' .. outcome
  elseif resolved ~= '' then raw = head .. content .. '\n' .. resolved
  else raw = head .. content end
  redis.call('SET', key, raw)
  return raw
end

-- batch_row returns the row of its batch, as text, with which a record was accepted.
local function batch_row(raw) return string.match(sections(raw), '"ro?w?":(%d+)}$') end
