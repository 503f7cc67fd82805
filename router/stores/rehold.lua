-- Hold again what a request under way held in a Redis that lost it.
--
-- KEYS  1 the worker's pending requests   2 what the janitor booked for the request   3.. the counter hashes
-- ARGV  1 request id   2 its pending entry   3.. what it holds of each counter
--
-- Changes nothing where the entry is still there, or where the janitor took the worker for dead and booked it.

local MADE_ANEW_SECONDS = 35000000 -- of a counter: until it is taken from the ledger, or booked in

if redis.call('EXISTS', KEYS[2]) == 1 or redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then
  return 0
end
for b = 3, #KEYS do
  if ARGV[b] ~= '0' then
    local is_new = redis.call('EXISTS', KEYS[b]) == 0
    redis.call('HINCRBY', KEYS[b], 'reserved', ARGV[b])
    if is_new then
      redis.call('EXPIRE', KEYS[b], MADE_ANEW_SECONDS)
    end
  end
end
return 1
