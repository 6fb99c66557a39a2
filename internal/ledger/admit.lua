-- The transition of an admission.
--
-- uses: keys, clock, record, readable, counters, deadline, retry_pause, feeding, uncertain, attempts, liveness, calls, admission, signals, commit_state

-- resolved_settings returns the settings that are fixed at the first call: the worker's
-- defaults, replaced by the batch's options.
local function resolved_settings(h, defaults)
  local options = h.batch > 0 and batch_info(h.batch).options
  if not options then return defaults end
  local all = cjson.decode(defaults)
  for key, value in pairs(cjson.decode(options)) do all[key] = value end
  all.not_after = nil -- it is read from the batch each time
  return cjson.encode(all)
end

-- admit decides whether a request may be called now and, if so, records in the same step
-- that it is called, immediately before the call is sent.
--
-- id, generation, run, turn: of the task
-- process, credential: the calling process, and the fingerprint of its credentials
-- kind: of its links, 'real' or 'simulated'
-- defaults: the worker's default settings as JSON, fixed at the first call
-- unbroken: for how many ms the process has reached Redis without interruption
-- dead: after how many ms of silence a process is dead
-- nonce: of this admission request; it is kept with the grant
-- connected: '1' if the process has connected to FaceKi, as it was asked to
-- hold_uncertain: '1' to hold a request whose earlier attempt died with its process
--
-- Returns {verdict, record, wait in ms, reason} and, with a grant, the batch's name and, if it
-- has one, its trace:
--   grant    send the call after the wait   probe     the same; it is the fleet's one probe
--   wait     ask again after the wait       connect   connect, then ask again
--   stale    the turn is not the request's present one
--   granted  this admission request was granted before, and the reply was lost: no call
--            followed, and the caller releases the turn
--   busy     an attempt may still be in progress: ask again later
--   dead     the earlier attempt died and hold_uncertain is set: the caller holds the
--            request, as the end of that attempt
--   upstream the account's links are of the other kind
--   early    the pause after a fault ends after the wait
--   newer, poison     the record cannot be read by this version, or by any
--   expired, cancel   the caller ends the request so; an attempt that died was counted
--   paused   the batch is paused: the request was put before the other rows of its batch
--   kept     an earlier attempt brought a link, which is kept: no call is made. The
--            reason is the time, ms
local function admit(id, generation, run, turn, process, credential, kind, defaults, unbroken, dead, nonce, connected,
    hold_uncertain)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return { 'stale', '', '0', '' } end
  local h, why = read_header(raw)
  if not h then return { why, '', '0', '' } end
  if h.gen ~= tonumber(generation) or h.run ~= tonumber(run) or h.turn ~= tonumber(turn) then return { 'stale', raw, '0', '' } end
  if h.state ~= 'q' and h.state ~= 'c' then return { 'stale', raw, '0', '' } end

  local has, batch = link_kind(), batch_info(h.batch)
  if has and has ~= kind then return { 'upstream', raw, '0', '' } end

  local own = h.state == 'c' and h.holder == tonumber(process)
  if own and is_granted(process, id, nonce) then return { 'granted', raw, '0', '' } end
  if h.state == 'c' then
    -- A process has one handler for a turn: its own earlier grant is over, and a call
    -- may have followed it.
    local over = own or attempt_is_over(h, id, tonumber(unbroken), tonumber(dead))
    if not over then return { 'busy', raw, '0', '' } end
    if hold_uncertain == '1' and h.flag ~= 'x' then return { 'dead', raw, '0', '' } end
    -- The outcome of the attempt is uncertain: it died with its process, or Redis lost
    -- its outcome.
    count_uncertain(h)
    report_signal('none', id, ms(h.holder), '', credential, h.changed, 0, 0)
    local content, resolved, outcome, earlier = sections(raw)
    outcome = outcome_with_attempt(outcome, h, '', '', '1')
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now), id)
    raw = write_record(key, h, content, resolved, outcome, earlier)
  elseif h.attempts > 0 then
    -- asynq forwards a task by the clock of whichever worker checks first, which may be
    -- wrong: a request that is early by less than a second is admitted.
    local due = tonumber(redis.call('ZSCORE', queued_key(h.lane), id) or 0)
    if due >= now + 1000 and in_retry_pause(h, due) then return { 'early', raw, ms(due - now), '' } end
  end

  local verdict, wait, reason = 'expired', '0', ''
  if h.flag == 'x' then verdict = 'cancel'
  elseif expired(h, id, batch.not_after) then -- also if its batch is paused
  elseif batch.stop == 'cancelled' then verdict = 'cancel'
  elseif batch.stop == 'paused' and h.lane == 'b' then verdict = 'paused'
  elseif h.attempts > 0 and string.find(select(4, sections(raw)), ',"kept":"', 1, true) then
    verdict, reason = 'kept', ms(now)
  else
    verdict, wait, reason = admit_call(LANE[h.lane], process, credential, id, nonce, connected)
  end

  local content, resolved, outcome, earlier = sections(raw)
  if verdict == 'grant' or verdict == 'probe' then
    move(h, 'c', batch_counts(h.batch))
    h.attempts, h.holder = h.attempts + 1, tonumber(process)
    redis.call('ZREM', queued_key(h.lane), id)
    if resolved == '' then
      return { verdict, write_record(key, h, content, resolved_settings(h, defaults), outcome, earlier), wait, reason, batch.name, batch.trace or nil }
    end
  elseif verdict == 'paused' then
    move(h, 'w', batch_counts(h.batch))
    redis.call('ZREM', queued_key('b'), id)
    redis.call('LPUSH', requeued_key(h.batch), id)
  else
    return { verdict, raw, wait, reason }
  end
  return { verdict, replace_header(key, h, raw), wait, reason, batch.name, batch.trace or nil }
end
