-- touch is the heartbeat of a process that is no worker.
-- Returns the id of the ledger, '' before the first worker or run.
--
-- uses: keys, clock
redis.call('HSET', account_key(), 'served_at', ms(now))
return redis.call('HGET', account_key(), 'id') or ''
