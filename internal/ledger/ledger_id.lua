-- id gives the name of the ledger, and makes ARGV[1] its name if it has none.
-- ARGV[2] the kind of the process: nothing is written for one of the other kind
-- Returns {'id', id}, or {'upstream', kind} as join does.
--
-- uses: keys, upstream_kind
local other = conflicting_kind(ARGV[2])
if other then return { 'upstream', other } end
redis.call('HSETNX', account_key(), 'id', ARGV[1])
return { 'id', redis.call('HGET', account_key(), 'id') }
