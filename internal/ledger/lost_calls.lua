-- lost_calls finds requests whose call is not in progress any more, so that the caller
-- can enqueue their tasks: the worker that takes one decides about the attempt.
--
-- KEYS[1]: the account's tag
-- unbroken: for how many ms the calling process has reached Redis without interruption
-- dead: after how many ms of silence a process is dead
-- skip: how many calls to skip
-- max: the most calls to read
-- expected_time: what the calling process expects Redis' time to be, ms; 0: not known
-- Returns {how many to skip next, or '' after the last page, lane, ref, ...}. Calls that
-- have ended leave the set, as do those whose record cannot be read by any version. A
-- probe that was lost ends at once: its turn waits behind others, which wait for its end.
--
-- uses: keys, clock, clock_step, readable, turn, liveness, gate_state, signals
local unbroken, dead, skip, max, expected_time = unpack(ARGV)
expected = tonumber(expected_time)
local calls = tag .. ':calls'
local page = redis.call('ZRANGE', calls, skip, skip + max - 1)
local out, kept = { '' }, tonumber(skip)
for _, call in ipairs(page) do
  local process, id = string.match(call, '^(%S+) (%S+)')
  local h, why = load_readable(id)
  if why == 'poison' or not why and not (h and h.state == 'c' and h.holder == tonumber(process)) then
    redis.call('ZREM', calls, call)
  else
    kept = kept + 1
    if h and attempt_is_over(h, id, tonumber(unbroken), tonumber(dead)) then
      abandon_probe(id, process)
      out[#out + 1], out[#out + 2] = LANE[h.lane], turn_ref(id, h)
    end
  end
end
store_gate()
if #page == tonumber(max) then out[1] = ms(kept) end
return out
