-- Whether an attempt may still be in progress.
--
-- uses: keys, clock, clock_step, turn

-- attempt_is_over reports whether the attempt of a request in `calling` is not in progress
-- any more. Its process is dead, or the process is alive and had no handler for the
-- turn at its last heartbeat, long after the attempt began: then Redis has lost the
-- attempt's outcome.
--
-- unbroken: for how many ms the calling process has reached Redis without interruption
-- dead: after how many ms of silence a process is dead
--
-- If Redis' clock has stepped since the last heartbeat of the calling process, no process
-- counts as dead. A heartbeat or a start of an attempt far in the future was stored
-- before the clock went back.
local function attempt_is_over(h, id, unbroken, dead)
  if clock_stepped() then unbroken = 0 end
  local heartbeat = tonumber(redis.call('ZSCORE', tag .. ':workers', h.holder) or 0)
  if math.abs(now - heartbeat) > dead then return unbroken >= dead end
  return math.abs(heartbeat - h.changed) > dead
    and redis.call('SISMEMBER', tag .. ':handlers:' .. h.holder, turn_ref(id, h)) == 0
end
