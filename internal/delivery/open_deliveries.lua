-- open_deliveries makes the deliveries of events whose requests have a callback URL. A
-- delivery that exists stays as it is.
--
-- KEYS[1]: the account's tag
-- rows: event_id, id, generation, run, type, body
-- Returns three values for each event: the status of its delivery, '' if it has none; its
-- host; the attempts so far.
--
-- uses: keys, clock, record, delivery
local function url_of(json, key)
  if not string.find(json, '"' .. key .. '"', 1, true) then return nil end
  local ok, all = pcall(cjson.decode, json)
  return ok and all[key]
end

-- content_trace returns the trace of a request that was accepted on its own. Only the row may
-- follow it, so that no key of the metadata is taken for it.
local function content_trace(content) return string.match(content, '"t":"([%w_-]+)"[,"r:%d]*}$') end

-- batch_trace returns that of a batch, false for none.
local traces = {}
local function batch_trace(batch)
  if traces[batch] == nil then traces[batch] = redis.call('HGET', batch_key(batch), 'trace') end
  return traces[batch]
end

-- callback_url returns the URL, the batch and the trace of a request; nil if it has no URL.
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
