-- What is fed: batches in turn, and in each batch first its requeued requests and then
-- its rows.
--
-- uses: keys
local function running_key() return tag .. ':running' end
local function requeued_key(batch) return tag .. ':again:' .. batch end

-- schedule_feed lists a batch that has something to feed. A batch that was not listed
-- comes after all that are, so that it gets no more than its share when it is extended
-- again and again.
local last_served
local function schedule_feed(batch)
  last_served = last_served or redis.call('HGET', account_key(), 'served') or '0'
  redis.call('ZADD', running_key(), 'NX', last_served, batch)
end

-- requeue puts a request before the rows of its batch.
local function requeue(batch, id)
  redis.call('RPUSH', requeued_key(batch), id)
  schedule_feed(batch)
end
