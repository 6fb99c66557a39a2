-- drop_failed removes a failed request from the operators' list. Its record is not
-- changed.
--
-- KEYS[1]: the account's tag
-- id, generation, run
-- Returns 1, or 0 if the request is not in the list, or another run is open.
--
-- uses: record, operator_lists
local id, generation, run = unpack(ARGV)
local h = load_header(id)
if not h or h.state ~= 'F' or h.gen ~= tonumber(generation) or h.run ~= tonumber(run) then return 0 end
return redis.call('ZREM', operator_list_key('F'), id)
