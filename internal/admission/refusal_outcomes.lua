-- Effects of the outcomes of calls on refused credentials.
--
-- uses: clock, gate_state, refusal

local function add_refusal(credential, began, message)
  local cleared = redis.call('HGET', refusal_key(credential), 'cleared')
  if cleared and tonumber(cleared) > began and tonumber(cleared) <= now then return end
  redis.call('DEL', refusal_key(credential))
  store_refusal(credential, { since = now, pause = REFUSED_PAUSE.first, next = now + REFUSED_PAUSE.first, prober = '', id = '', by = 0, message = message })
  set('refused', gate.refused == '' and credential or gate.refused .. ' ' .. credential)
  record_change('closed', 'refused', now)
end

-- update_refusal changes a credential's state after a call with it.
local function update_refusal(signal, id, process, credential, began, message)
  local r = refusal(credential)
  if not r then
    if signal == 'refused' then add_refusal(credential, began, message) end
    return
  end
  local good = signal == 'success' or signal == 'alive'
  if good and began >= r.since then
    remove_refusal(credential)
    redis.call('DEL', refusal_key(credential))
    redis.call('HSET', refusal_key(credential), 'cleared', ms(now))
    redis.call('PEXPIRE', refusal_key(credential), REFUSAL_TTL)
    record_change('open', 'refused', now)
  elseif r.prober == process and r.id == id then
    if signal == 'refused' then
      r.pause = math.min(REFUSED_PAUSE.max, r.pause * 2)
      r.message = message
    end
    r.next = signal == 'back' and now or now + r.pause
    r.prober, r.id, r.by = '', '', 0
    store_refusal(credential, r)
  end
end
