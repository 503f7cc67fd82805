-- Give back the reservation, book the cost, append the record, store the answer: all or nothing.
--
-- KEYS  1 the worker's pending requests   2 stream of settled spend   3 cache entry
--       4.. the counter hashes that the reservation was taken from
-- ARGV  1 request id   2 cost in nano-USD   3 record   4 '1' if the request was admitted
--       5 seconds to keep the answer, '0' for not at all   6 answer
--
-- Returns 1, or 0 where nothing was held for the request: it was settled before, or Redis lost what it held.
-- Then the counters stay as they are. The record is appended all the same: the ledger knows a repeat by its id.

local held = redis.call('HGET', KEYS[1], ARGV[1])
if ARGV[4] == '1' and held then
  -- First of all: a full Redis allows this write, and after it the rest of the script.
  redis.call('HDEL', KEYS[1], ARGV[1])
end
-- Before the counters: a script that fails keeps what it has done, and the record matters most.
redis.call('XADD', KEYS[2], '*', 'record', ARGV[3])
if ARGV[4] == '1' and not held then
  return 0
end
if ARGV[5] ~= '0' then
  redis.call('SET', KEYS[3], ARGV[6], 'EX', ARGV[5])
end
if ARGV[4] == '1' then
  local amount = string.match(held, '^%d+')
  for b = 4, #KEYS do
    -- Nothing is added where there is nothing: Redis takes no '-0', and a hit must not make a counter that never expires.
    if amount ~= '0' then
      redis.call('HINCRBY', KEYS[b], 'reserved', '-' .. amount)
    end
    if ARGV[2] ~= '0' then
      redis.call('HINCRBY', KEYS[b], 'spent', ARGV[2])
    end
  end
end
return 1
