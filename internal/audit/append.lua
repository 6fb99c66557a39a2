-- append adds a change to the audit trail, and removes the oldest ones beyond the limit.
--
-- KEYS[1]: the account's tag
-- max: how many changes are kept
-- key, name: of the API key   action   target   request: id of the HTTP request
-- by: who made the change from the command line, or ''
--
-- uses: keys, clock, audited
local max, key, name, action, target, request, by = unpack(ARGV)

-- Changes that an earlier version stored are not listed by their targets. It may run for
-- some time beside this one.
local before = redis.call('XLEN', audit_key())
redis.call('HSETNX', account_key(), 'audit_indexed', ms(now))

local fields = { 'key', key, 'name', name, 'action', action, 'target', target, 'request', request }
if by ~= '' then fields[#fields + 1], fields[#fields + 2] = 'by', by end
list_audited(target, redis.call('XADD', audit_key(), '*', unpack(fields)))

local MOST = 20 -- that one script removes, in case the limit was larger before
local over = math.min(before + 1 - tonumber(max), MOST)
if over > 0 then
  for _, entry in ipairs(redis.call('XRANGE', audit_key(), '-', '+', 'COUNT', over)) do
    unlist_audited(target_of(entry), entry[1])
    redis.call('XDEL', audit_key(), entry[1])
  end
end
return 1
