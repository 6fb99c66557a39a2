-- Writing a chunk of a batch.
--
-- uses: keys, clock, record, feeding, batch_order, batch_joined, mentions

-- row_stays reports whether one of the batch's own requests was accepted with this row:
-- it stays, whichever file is imported next. Other rows of a chunk are replaced.
local function row_stays(batch, row, id)
  local raw = redis.call('GET', record_key(id))
  if not raw then return false end
  local readable, h = pcall(parse_header, raw)
  return not readable or h.batch == batch and batch_row(raw) == row -- or it is a newer version's
end

-- merged_rows returns the rows of a chunk in order, with those rows of its earlier text
-- that stay: another file, or one whose row has a conflict now, removes nothing.
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

-- store_chunk writes a chunk and has its requests fed.
--
-- chunk: its number, '' for none   text: its rows, each "row id\n"
-- size: how many these are   joined: how many of them joined
-- waiting: the ids of the requests that wait now
local function store_chunk(batch, chunk, text, size, joined, waiting)
  if chunk == '' then
    for _, id in ipairs(waiting) do requeue(batch, id) end
    return
  end
  -- A chunk that was written before may have been fed already, and the cursor has passed
  -- one that comes late: its new requests, and those of its earlier rows, are fed before
  -- the rows. Those that do not wait are left as they are.
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
