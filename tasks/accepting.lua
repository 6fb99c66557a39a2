-- What the scripts that accept requests share.
--
-- uses: keys, clock, record

-- batch_refusal returns the reply {-1} if the batch is cancelled, {-3} if there is no such
-- batch any more; nil if it takes requests, or if there is none.
local function batch_refusal(batch)
  if batch == 0 then return nil end
  local is = redis.call('HMGET', batch_key(batch), 'status', 'name')
  if is[1] == 'cancelled' then return { -1 } end
  if not is[2] then return { -3 } end
end

-- backlog returns how many requests of a lane wait or are queued. In the interactive lane
-- none waits: its requests are queued when they are accepted.
local function backlog(lane)
  local n = redis.call('ZCARD', queued_key(lane))
  if lane == 'b' then n = n + tonumber(redis.call('HGET', account_key(), 'waiting') or '0') end
  return n
end

-- backlog_refusal returns the reply {-2, interactive, bulk} if a lane has no room for as
-- many new requests as new[lane] says: how many there is room for. max is '' for any.
local function backlog_refusal(new, max)
  max = tonumber(max)
  if not max then return nil end
  local room, full = {}, false
  for lane, n in pairs(new) do
    room[lane] = n > 0 and math.max(0, max - backlog(lane)) or 0
    full = full or n > room[lane]
  end
  if full then return { -2, ms(room.i), ms(room.b) } end
end

-- new_header returns the header of a request that is accepted now.
local function new_header(lane, gen, deadline, batch)
  if lane == 'b' and gen == 1 and deadline == '-' then return string.format('n%06d%013.0f', batch, now) end
  return format_header({
    version = '2', state = lane == 'i' and 'q' or 'w', lane = lane, flag = '-', gen = gen, run = 1, turn = lane == 'i' and 1 or 0,
    attempts = 0, charged = 0, dups = 0, batch = batch, seen = 0, accepted = now, changed = now, holder = 0, deadline = deadline,
  })
end

-- new_record returns a record with a header and a content. Scripts of version 1 take a record
-- that is shorter than their header for none, and could overwrite it: blanks fill it.
local function new_record(head, content)
  local missing = HEADER - #head - #content
  if missing > 0 then content = '{' .. string.rep(' ', missing) .. string.sub(content, 2) end
  return head .. content
end

-- stored_records returns the reply {ok, record or '' ...}.
local function stored_records(ok, keys)
  local out = { ok }
  for i, key in ipairs(keys) do out[i + 1] = redis.call('GET', key) or '' end
  return out
end
