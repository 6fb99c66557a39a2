-- join registers a worker process and sets its rate. It writes nothing if the account is
-- of the other kind, or the process number is taken.
--
-- KEYS[1]: the account's tag
-- process: the number that it proposes
-- kind: 'real' or 'simulated'
-- ledger_id: the ledger's id, if it has none yet
-- n, per, burst: the rate, n calls in per ms; n is '0' to leave the rate as it is
-- Returns {'joined', ledger id, n, per, burst}, with the rate that another worker set
-- before (zeros if none did), {'taken'} if another process has the number, or
-- {'upstream', kind}: the account is 'real', 'simulated', or 'unknown', perhaps real.
--
-- uses: keys, clock, upstream_kind, batch_names, worker_rate, bundlers
local process, kind, ledger_id, n, per, burst = unpack(ARGV)
local workers = tag .. ':workers'
local conflict = conflicting_kind(kind)
if conflict then return { 'upstream', conflict } end
if redis.call('ZSCORE', workers, process) then return { 'taken' } end
redis.call('HSET', account_key(), 'upstream', kind)
redis.call('HSETNX', account_key(), 'id', ledger_id)
redis.call('ZADD', workers, ms(now), process)
redis.call('ZADD', bundlers_key(), ms(now), process)
-- What an earlier version wrote is not indexed, see mentions.lua and batch_empty.lua: rows,
-- events until now, and batches that may be empty. It may write for a day after the first
-- worker of this version joined.
redis.call('HSETNX', account_key(), 'indexes_since', ms(now))
if redis.call('HLEN', batch_names_key()) == 0 then redis.call('HSETNX', account_key(), 'rows_indexed', 1) end
local events = redis.call('XLEN', tag .. ':results')
redis.call('HSETNX', account_key(), 'events_indexed', events == 0 and 0 or ms(now))
local before = { '0', '0', '0' }
if n ~= '0' then before = set_rate(n, per, burst) end
return { 'joined', redis.call('HGET', account_key(), 'id'), unpack(before) }
