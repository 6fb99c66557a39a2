-- Possible duplicates: attempts with an uncertain outcome that were superseded or ended.
--
-- uses: keys

-- count_possible_duplicates counts them for the batch and the account. The account's
-- counter never falls.
local function count_possible_duplicates(batch, n)
  redis.call('HINCRBY', batch_key(batch), 'possible_duplicates', n)
  redis.call('HINCRBY', account_key(), 'possible_duplicates', n)
end
