-- open makes the deliveries of events whose requests have a callback URL.
--
-- ARGV: for each event its id, application id, generation, run, type, body
-- Returns for each: the status of its delivery, '' where there is none; its host;
-- the attempts so far. What is there already stays as it is.
--
-- uses: keys, clock, record, delivery
local function decoded(text)
  if not string.find(text, '"callback_url"', 1, true) then return nil end
  local ok, all = pcall(cjson.decode, text)
  return ok and all.callback_url
end

local function callback_url(id, gen)
  local raw = redis.call('GET', record_key(id))
  if not raw or #raw < HEADER then return nil end
  local h = parse(raw)
  if h.gen ~= gen then
    raw = redis.call('GET', old_key(gen, id))
    if not raw then return nil end
    h = parse(raw)
  end
  local content, resolved = sections(raw)
  local url = decoded(content) or decoded(resolved)
  if not url and h.batch > 0 then url = decoded(redis.call('HGET', batch_key(h.batch), 'options') or '') end
  return url, h.batch
end

local out = {}
for i = 1, #ARGV, 6 do
  local event, id = ARGV[i], ARGV[i + 1]
  local key = delivery_key(event)
  local known = redis.call('HMGET', key, 'status', 'host', 'attempts')
  local status, host, attempts = known[1] or '', known[2] or '', known[3] or '0'
  if status == '' then
    local url, batch = callback_url(id, tonumber(ARGV[i + 2]))
    if url then
      status, host = 'pending', string.lower(string.match(url, '^%a+://([^/?#]*)') or '')
      redis.call('HSET', key, 'application_id', id, 'generation', ARGV[i + 2], 'run', ARGV[i + 3], 'type', ARGV[i + 4],
        'body', ARGV[i + 5], 'batch', batch, 'url', url, 'host', host, 'status', status, 'created_at', ms(now),
        'attempts', 0, 'tries', 0)
      redis.call('RPUSH', deliveries_key(id), event)
      redis.call('ZADD', pending_key(), ms(now), event)
    end
  end
  out[#out + 1], out[#out + 2], out[#out + 3] = status, host, attempts
end
return out
