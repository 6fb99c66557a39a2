-- hide takes a failed request out of what a person looks through; nothing else
-- changes. ARGV[1] id, [2] generation, [3] run
-- Returns 1, or 0 where it is not there, or is another run.
--
-- uses: record, operator_lists
local h = load(ARGV[1])
if not h or h.state ~= 'F' or h.gen ~= tonumber(ARGV[2]) or h.run ~= tonumber(ARGV[3]) then return 0 end
return redis.call('ZREM', operator_list_key('F'), ARGV[1])
