-- Credentials that FaceKi refuses. See refusal.go.

local function refused_key(credential) return tag .. ':refused:' .. credential end

local function listed(credential) return string.find(' ' .. g.refused .. ' ', ' ' .. credential .. ' ', 1, true) end

local function unlist(credential)
  local rest = {}
  for other in string.gmatch(g.refused, '%S+') do
    if other ~= credential then rest[#rest + 1] = other end
  end
  set('refused', table.concat(rest, ' '))
end

local function refusal(credential)
  if not listed(credential) then return nil end
  local v = redis.call('HMGET', refused_key(credential), 'since', 'pause', 'next', 'prober', 'id', 'by')
  if v[1] then
    local since, pause, next, by = tonumber(v[1]), tonumber(v[2]), tonumber(v[3]), tonumber(v[6])
    if next > now + pause then next = now end -- none lies as far ahead: the clock went back
    if by > now + ANSWER then by = 0 end
    return { since = math.min(since, now), pause = pause, next = next, prober = v[4], id = v[5], by = by }
  end
  unlist(credential)
end

-- refuse keeps the state of a refused credential, and what was said of it if r has it.
local function refuse(credential, r)
  redis.call('HSET', refused_key(credential), 'since', ms(r.since), 'pause', ms(r.pause), 'next', ms(r.next),
    'prober', r.prober, 'id', r.id, 'by', ms(r.by))
  if r.message then redis.call('HSET', refused_key(credential), 'message', r.message, 'message_at', ms(now)) end
  redis.call('PEXPIRE', refused_key(credential), FORGOTTEN)
end

local function first_refusal(credential, marked, message)
  local cleared = redis.call('HGET', refused_key(credential), 'cleared')
  if cleared and tonumber(cleared) > marked and tonumber(cleared) <= now then return end
  redis.call('DEL', refused_key(credential))
  refuse(credential, { since = now, pause = REFUSED[1], next = now + REFUSED[1], prober = '', id = '', by = 0, message = message })
  set('refused', g.refused == '' and credential or g.refused .. ' ' .. credential)
  note('closed', 'refused', now)
end

-- judge turns a credential's state by what came of a call with it.
local function judge(kind, id, process, credential, marked, message)
  local r = refusal(credential)
  if not r then
    if kind == 'refused' then first_refusal(credential, marked, message) end
    return
  end
  local good = kind == 'success' or kind == 'alive'
  if good and marked >= r.since then
    unlist(credential)
    redis.call('DEL', refused_key(credential))
    redis.call('HSET', refused_key(credential), 'cleared', ms(now))
    redis.call('PEXPIRE', refused_key(credential), FORGOTTEN)
    note('open', 'refused', now)
  elseif r.prober == process and r.id == id then
    if kind == 'refused' then
      r.pause = math.min(REFUSED[2], r.pause * 2)
      r.message = message
    end
    r.next = kind == 'back' and now or now + r.pause
    r.prober, r.id, r.by = '', '', 0
    refuse(credential, r)
  end
end
