-- lost names requests whose call is under way no more, so that the caller can see
-- to it that they have their task: whoever takes it judges the attempt.
--
-- ARGV[1] for how many ms the judge has reached Redis without a break
-- ARGV[2] after how many ms of silence a process is dead
-- ARGV[3] how many calls to pass over, [4] to look at
-- ARGV[5] expected: what the judge takes Redis' time for
-- Returns {how many are passed over next, or '' where there are no more, lane,
-- ref, ...}. What is not being called any more leaves the set, as does what
-- nobody can read.
--
-- uses: keys, clock, clock_step, readable, turn, liveness
expected = tonumber(ARGV[5])
local calls = tag .. ':calls'
local page = redis.call('ZRANGE', calls, ARGV[3], ARGV[3] + ARGV[4] - 1)
local out, kept = { '' }, tonumber(ARGV[3])
for _, call in ipairs(page) do
  local process, id = string.match(call, '^(%S+) (%S+)')
  local h, why = load_readable(id)
  if why == 'poison' or not why and not (h and h.state == 'c' and h.holder == tonumber(process)) then
    redis.call('ZREM', calls, call)
  else
    kept = kept + 1
    if h and attempt_is_over(h, id, tonumber(ARGV[1]), tonumber(ARGV[2])) then
      out[#out + 1], out[#out + 2] = LANE[h.lane], turn_ref(id, h)
    end
  end
end
if #page == tonumber(ARGV[4]) then out[1] = ms(kept) end
return out
