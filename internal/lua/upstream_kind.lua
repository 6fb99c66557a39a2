-- Real and simulated accounts.
--
-- uses: keys

-- conflicting_kind returns the account's kind if a process of the given kind must not
-- change it. The first worker that joins determines the kind. In an account of earlier
-- versions only the first link did: one without a kind that a worker has joined may be
-- real, and is 'unknown' to a simulated process.
local function conflicting_kind(kind)
  local has = redis.call('HGET', account_key(), 'upstream')
  if has then return has ~= kind and has end
  local joined = redis.call('HEXISTS', tag .. ':gate', 'set:n') == 1 or redis.call('EXISTS', tag .. ':workers') == 1
  return joined and kind == 'simulated' and 'unknown'
end
