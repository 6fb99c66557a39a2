-- ledger_id returns the ledger's id, and sets it if the ledger has none.
--
-- KEYS[1]: the account's tag
-- new_id
-- kind: of the process, 'real' or 'simulated'; nothing is written for the other kind
-- Returns {'id', id}, or {'upstream', kind} as join does.
--
-- uses: keys, upstream_kind
local new_id, kind = unpack(ARGV)
local conflict = conflicting_kind(kind)
if conflict then return { 'upstream', conflict } end
redis.call('HSETNX', account_key(), 'id', new_id)
return { 'id', redis.call('HGET', account_key(), 'id') }
