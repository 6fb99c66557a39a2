-- The record of a request: a header of fixed columns, then up to four sections,
-- separated by newlines: content, resolved settings, outcome, and earlier outcomes (one
-- line each).
--
-- The header, columns from 1 (numbers are decimal, padded with zeros):
--    1 version   2 state   3 lane    4 'x': cancel requested, else '-'
--    5 generation (3)   8 run (3)   11 turn (4)   15 attempts (5)
--   20 charged attempts (2)   22 possible duplicates (4)   26 batch (6)
--   32 successes of the account when an attempt last failed, plus one (10)
--   42 accepted at, ms (13)   55 changed at, ms (13)   68 process that holds it (6)
--   74 'd': has its own not_after, kept in the deadlines; 'n': has none, and its batch's
--      does not apply, since a person retried it; else '-': its batch's applies
-- State: w waiting, q queued, c calling, h held, C created, F failed, X cancelled.
--
-- uses: keys
local HEADER = 74

local NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
local ENDED = { C = true, F = true, X = true }

-- parse_header parses a header. It fails on a record of another version, before the script
-- changes anything.
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

-- format_header formats the columns. Counters stop at the end of their columns, and turns wrap.
-- Processes have numbers below a million. A generation, run or batch that would be too
-- large is refused before.
local function format_header(h)
  local raw = string.format('1%s%s%s%03d%03d%04d%05d%02d%04d%06d%010d%013.0f%013.0f%06d%s',
    h.state, h.lane, h.flag, h.gen, h.run, h.turn, math.min(h.attempts, 99999), math.min(h.charged, 99),
    math.min(h.dups, 9999), h.batch, math.min(h.seen, 9999999999), h.accepted, h.changed, h.holder, h.deadline)
  if #raw ~= HEADER then error('a number is too large for its column in the header ' .. raw, 0) end
  return raw
end

-- load_header reads the header of an id's latest generation, or nil.
local function load_header(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if #raw < HEADER then return nil end
  return parse_header(raw)
end

-- save_header writes a header over the one that is stored.
local function save_header(key, h)
  local columns = format_header(h)
  redis.call('SETRANGE', key, 0, columns)
  return columns
end

-- sections returns the content, resolved settings, outcome and earlier outcomes of a
-- record; '' for each that is absent.
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

-- write_record stores and returns a whole record. Empty sections at the end are left out.
local function write_record(key, h, content, resolved, outcome, earlier)
  local raw = format_header(h) .. content
  if earlier ~= '' then raw = raw .. '\n' .. resolved .. '\n' .. outcome .. '\n' .. earlier
  elseif outcome ~= '' then raw = raw .. '\n' .. resolved .. '\n' .. outcome
  elseif resolved ~= '' then raw = raw .. '\n' .. resolved end
  redis.call('SET', key, raw)
  return raw
end

-- batch_row returns the row of its batch, as text, with which a record was accepted.
local function batch_row(raw) return string.match(sections(raw), '"row":(%d+)}$') end
