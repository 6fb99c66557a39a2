-- join registers a worker process, unless the account is of the other kind, and
-- puts its rate in force: nothing is written for a process that is refused.
--
-- ARGV[1] process: the number that it proposes   ARGV[2] 'real' or 'simulated'
-- ARGV[3] id: names the ledger, if it has no name yet
-- ARGV[4] n   ARGV[5] per, in ms   ARGV[6] burst: the rate; '0' leaves it as it is
--
-- Returns {'joined', id, n, per, burst}, the rate that another worker set before
-- (zeros if none did), {'taken'} if another process has the number, or
-- {'upstream', kind}: the account is 'real', 'simulated', or 'unknown': perhaps real.
--
-- uses: keys, clock, upstream_kind, worker_rate
local process, kind, workers = ARGV[1], ARGV[2], tag .. ':workers'
local other = conflicting_kind(kind)
if other then return { 'upstream', other } end
if redis.call('ZSCORE', workers, process) then return { 'taken' } end
redis.call('HSET', account_key(), 'upstream', kind)
redis.call('HSETNX', account_key(), 'id', ARGV[3])
redis.call('ZADD', workers, ms(now), process)
local before = { '0', '0', '0' }
if ARGV[4] ~= '0' then before = set_rate(ARGV[4], ARGV[5], ARGV[6]) end
return { 'joined', redis.call('HGET', account_key(), 'id'), unpack(before) }
