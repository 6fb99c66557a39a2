-- Where an id is named apart from its record, its own row and its lists: in rows that
-- joined, or repeat an earlier row, and in events that were replayed. With it, erasing a
-- request reads neither other batches nor the results stream. The ids are spread over
-- hashes of a few fields, which take little memory.
--
-- A mention is "r<batch>.<chunk>", "e<entry of the results stream>" or "m<minute>" of
-- ended.lua. It may outlive what it names.
--
-- uses: keys, record

local function mentions_key(id) return tag .. ':mentions:' .. string.sub(redis.sha1hex(id), 1, 4) end

-- add_mention adds a mention, unless it is known.
local function add_mention(id, mention)
  local key = mentions_key(id)
  local known = redis.call('HGET', key, id) or ''
  if string.find(known .. ' ', ' ' .. mention .. ' ', 1, true) then return end
  redis.call('HSET', key, id, known .. ' ' .. mention)
end

-- mention_event adds the mention of an entry of the results stream, unless it was trimmed,
-- and removes those of entries that were.
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

-- take_mentions removes and returns the mentions of an id.
local function take_mentions(id)
  local key = mentions_key(id)
  local known = redis.call('HGET', key, id)
  if not known then return '' end
  redis.call('HDEL', key, id)
  return known
end

-- is_own_row reports whether a record was accepted with this row of the batch. A record of
-- another version was not, as far as this one can tell.
local function is_own_row(raw, batch, row)
  local readable, h = pcall(parse_header, raw)
  return readable and h.batch == tonumber(batch) and batch_row(raw) == row
end

-- mention_rows adds the mentions of those rows of a chunk that are not their requests' own.
-- It returns the text without the ids of requests that have no record, and how many these are.
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
