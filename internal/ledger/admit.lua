-- defaults gives what is frozen: the batch's options, and the worker's defaults
-- where it has none.
--
-- uses: keys, clock, record, readable, counters, deadline, retry_pause, feeding, uncertain, liveness, calls, admission, signals, commit_state
local function defaults(h, own)
  local options = h.batch > 0 and batch_info(h.batch).options
  if not options then return own end
  local all = cjson.decode(own)
  for key, value in pairs(cjson.decode(options)) do all[key] = value end
  all.not_after = nil -- it is asked for each time
  return cjson.encode(all)
end

-- mark makes the call that is about to be sent known, immediately before it is.
--
-- gen, run, turn: of the task
-- process, credential: the calling process, and the fingerprint of its credentials
-- upstream: 'real' or 'simulated'
-- own: the worker's defaults, kept at the first call
-- unbroken: for how many ms the judge has reached Redis without a break
-- dead: after how many ms of silence a process is dead
-- nonce: of this request; it is kept with the grant
-- connected '1': it has connected, as it was told
-- hold '1': what an attempt that died may have made is for a person to find out
--
-- Returns {verdict, raw record, ms to wait, reason}, and for a grant the batch's name:
--   grant    send it after the wait   probe     the same, and it is the fleet's one probe
--   wait     ask again after it       connect   connect, then ask again
--   stale    the task stands for nothing any more
--   granted  this request was granted before, and its reply was lost: no call followed,
--            and the caller gives it back
--   busy     its attempt may still be alive: look again later
--   dead     its attempt is, and `hold` is set: the caller holds it, as that attempt's end
--   upstream the account's links are of the other kind
--   early    its pause after a fault is not over: not before the wait
--   newer, poison     its record cannot be read: by a newer version only, or by none
--   expired, cancel   end it so, it is not to be called; an attempt that died is counted
--   paused   its batch is: it was put back before the batch's other rows
--   kept     an earlier attempt brought a link, which is kept: no call is to be made.
--            The reason is the time, in ms
local function admit(id, gen, run, turn, process, credential, upstream, own, unbroken, dead, nonce, connected, hold)
  local holder = tonumber(process)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return { 'stale', '', '0', '' } end
  local why = unreadable(raw)
  if why then return { why, '', '0', '' } end
  local h = parse(raw)
  if h.gen ~= tonumber(gen) or h.run ~= tonumber(run) or h.turn ~= tonumber(turn) then return { 'stale', raw, '0', '' } end
  if h.state ~= 'q' and h.state ~= 'c' then return { 'stale', raw, '0', '' } end

  local has, batch = link_kind(), batch_info(h.batch)
  if has and has ~= upstream then return { 'upstream', raw, '0', '' } end

  local mine = h.state == 'c' and h.holder == holder
  if mine and is_granted(process, id, nonce) then return { 'granted', raw, '0', '' } end
  if h.state == 'c' then
    -- A process has one handler of a turn: an earlier grant of its own is over, and
    -- a call may have followed it.
    local over = mine or attempt_is_over(h, id, tonumber(unbroken), tonumber(dead))
    if not over then return { 'busy', raw, '0', '' } end
    if hold == '1' and h.flag ~= 'x' then return { 'dead', raw, '0', '' } end
    -- Whether the attempt made a link is unknown: it died with its process, or Redis
    -- lost its outcome.
    count_uncertain(h)
    report('none', id, ms(h.holder), '', credential, h.changed, 0, 0)
    move(h, 'q', batch_counts(h.batch))
  elseif h.attempts > 0 then
    -- asynq forwards by the clock of whichever worker looks first, and that may be
    -- off: what is early by less than a second is let go.
    local due = tonumber(redis.call('ZSCORE', queued_key(h.lane), id) or 0)
    if due >= now + 1000 and in_retry_pause(h, due) then return { 'early', raw, ms(due - now), '' } end
  end

  local verdict, wait, reason = 'expired', '0', ''
  if h.flag == 'x' then verdict = 'cancel'
  elseif expired(h, id, batch.not_after) then -- also where its batch is paused
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
    h.attempts, h.holder = h.attempts + 1, holder
    redis.call('ZREM', queued_key(h.lane), id)
    if resolved == '' then
      return { verdict, write(key, h, content, defaults(h, own), outcome, earlier), wait, reason, batch.name }
    end
  elseif verdict == 'paused' then
    move(h, 'w', batch_counts(h.batch))
    redis.call('ZREM', queued_key('b'), id)
    redis.call('LPUSH', requeued_key(h.batch), id)
  elseif string.sub(raw, 1, HEADER) == header(h) then
    return { verdict, raw, wait, reason }
  else -- an attempt that died was put back
    redis.call('ZADD', queued_key(h.lane), ms(now), id)
  end
  return { verdict, save(key, h) .. string.sub(raw, HEADER + 1), wait, reason, batch.name }
end
