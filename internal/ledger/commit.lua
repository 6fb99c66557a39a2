-- commit does what several handlers ask for, one after the other, each as if it
-- were alone: what one of them fails with stops none of the others.
--
-- ARGV[1] expected: what the process takes Redis' time for, then for each the name of what is to be done, how many arguments it has, and these
-- Returns for each {1, what it returns} or {0, its error}. Where all fail, as they do
-- in a Redis that cannot be written to, so does this: a client may know what to do.
--
-- uses: clock_step, gate_state, commit_state, admit, created, fault
expected = tonumber(ARGV[1])
local does = { admit = admit, created = created, fault = fault }
local replies, failed, why, i = {}, 0, nil, 2
while i < #ARGV do
  local last = i + 1 + ARGV[i + 1]
  local ok, reply = pcall(does[ARGV[i]], unpack(ARGV, i + 2, last))
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
if failed == #replies then error(why, 0) end
return replies
