-- commit makes several transitions, one after the other, each as if it were alone: the
-- failure of one stops none of the others.
--
-- KEYS[1]: the account's tag
-- expected_time: what the process expects Redis' time to be, ms; 0: not known
-- then for each transition: its name, which is that of the file and of the function, the
--   number of its arguments, and these in the order of the function's parameters
-- Returns for each {1, what it returned} or {0, its error}. If all fail, as in a Redis
-- that accepts no writes, the script fails with the last error, which the client may
-- know how to handle.
--
-- uses: buffer, keys, clock_step, gate_state, commit_state, admit, created, fault
-- Redis refuses additions, and not removals, when its memory is full, unless they follow
-- another write of the script. Then a transition could fail after it collected commands that
-- another one sends: so this command, which changes nothing, fails first.
redis.call('SETRANGE', KEYS[1], 0, '')
local expected_time = unpack(ARGV, 1, 1)
expected = tonumber(expected_time)
local transitions = { admit = admit, created = created, fault = fault }
local needed, i = {}, 2
while i < #ARGV do
  needed[#needed + 1] = record_key(ARGV[i + 2]) -- the first argument of each transition is the id
  i = i + 2 + ARGV[i + 1]
end
read_records(needed)
local replies, failed, why = {}, 0, nil
i = 2
while i < #ARGV do
  local name, last = ARGV[i], i + 1 + ARGV[i + 1]
  local ok, reply = pcall(transitions[name], unpack(ARGV, i + 2, last))
  if ok then
    replies[#replies + 1] = { 1, reply }
  else
    failed, why = failed + 1, reply
    replies[#replies + 1] = { 0, type(reply) == 'table' and reply.err or reply }
  end
  i = last + 1
end
store_gate()
store_counts()
send_collected()
if failed == #replies then error(why, 0) end
return replies
