-- client_heartbeat is the heartbeat of a process that is no worker: a write that shows
-- whether Redis accepts writes.
--
-- KEYS[1]: the account's tag
-- Returns the ledger's id; '' before the first worker or run.
--
-- uses: keys, clock
redis.call('HSET', account_key(), 'served_at', ms(now))
return redis.call('HGET', account_key(), 'id') or ''
