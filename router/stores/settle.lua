-- Give back the reservation, book the use, append the record, store the answer: all or nothing.
--
-- KEYS  1 the worker's pending requests   2 stream of settled spend   3 cache entry   4 marker that the counters
--       are whole   5 how many settlements moved no counter, because they were not   6 what the janitor booked for
--       this request   7 set once a request that nothing was held for is booked   8.. the counter hashes
-- ARGV  1 request id   2 record   3 '1' if the request was admitted   4 epoch that it was admitted in
--       5 seconds to keep the answer, '0' for not at all   6 answer   7 seconds to keep 6, '0' if this is the truth
--       then per counter: what was used of it, bucket of a rolling one ('' none), expires_at_s (0 by itself)
--
-- Returns 1, or 0 where nothing was held for the request and no counter moved.
--   held             the reservation is given back, the use is booked
--   not held, but booked by the janitor at its reservation: the counters are put right
--   not held, and admitted in another epoch: Redis lost what it held, and the counters came from the ledger
--                    without this request; it is booked once
--   not held         it was settled before; the ledger knows the repeat by its id

local id, record, used_at = ARGV[1], ARGV[2], 7
local PER_COUNTER = 3
local BOOKED_SECONDS = 604800

local held = false
if ARGV[3] == '1' then
  held = redis.call('HGET', KEYS[1], id)
  if held then
    -- First of all: a full Redis allows this write, and after it the rest of the script.
    redis.call('HDEL', KEYS[1], id)
  end
end
-- Before the counters: a script that fails keeps what it has done, and the record matters most.
redis.call('XADD', KEYS[2], '*', 'record', record)

-- Adds `amount` (text, maybe negative) to what counter `b` has spent.
local function book(b, amount)
  if amount == '0' then
    return -- or a hit would make a counter that never expires
  end
  local key, at = KEYS[7 + b], used_at + (b - 1) * PER_COUNTER
  local bucket = ARGV[at + 2]
  if bucket ~= '' then
    local oldest = redis.call('HGET', key, 'oldest')
    if oldest and tonumber(bucket) < tonumber(oldest) then
      return -- its part has left the window
    end
    redis.call('HINCRBY', key, 'b' .. bucket, amount)
    if not oldest then
      redis.call('EXPIRE', key, 35000000) -- made anew: until the next request sets it right
    end
  end
  local spent = redis.call('HINCRBY', key, 'spent', amount)
  if ARGV[at + 3] ~= '0' and string.format('%.0f', spent) == amount then
    redis.call('EXPIREAT', key, ARGV[at + 3])
  end
end

local counters = #KEYS - 7
if held then
  local b = 0
  for amount in string.gmatch(string.match(held, '^[^\n]*'), '%d+') do
    b = b + 1
    if amount ~= '0' then
      local left = redis.call('HINCRBY', KEYS[7 + b], 'reserved', '-' .. amount)
      if left <= 0 and redis.call('HEXISTS', KEYS[7 + b], 'spent') == 0 and ARGV[used_at + b * PER_COUNTER - 2] == '0' then
        redis.call('DEL', KEYS[7 + b])
      end
    end
  end
  for b = 1, counters do
    book(b, ARGV[used_at + (b - 1) * PER_COUNTER + 1])
  end
  if counters > 0 and redis.call('EXISTS', KEYS[4]) == 0 then
    redis.call('INCR', KEYS[5]) -- they are being taken from the ledger, and this may be overwritten
  end
  if ARGV[7] ~= '0' then
    local amounts = {}
    for b = 1, counters do
      amounts[b] = ARGV[used_at + (b - 1) * PER_COUNTER + 1]
    end
    redis.call('SET', KEYS[6], table.concat(amounts, ' '), 'EX', ARGV[7])
  end
elseif ARGV[3] == '1' then
  local guess = redis.call('GET', KEYS[6])
  if guess then
    redis.call('DEL', KEYS[6])
    local b = 0
    for amount in string.gmatch(guess, '%d+') do
      b = b + 1
      if b <= counters then
        book(b, string.format('%.0f', tonumber(ARGV[used_at + (b - 1) * PER_COUNTER + 1]) - tonumber(amount)))
      end
    end
    return 1
  end
  if counters == 0 then
    return 0
  end
  local epoch = redis.call('GET', KEYS[4])
  if not epoch then
    redis.call('INCR', KEYS[5])
    return 0
  end
  if epoch == ARGV[4] or not redis.call('SET', KEYS[7], '1', 'NX', 'EX', BOOKED_SECONDS) then
    return 0
  end
  for b = 1, counters do
    book(b, ARGV[used_at + (b - 1) * PER_COUNTER + 1])
  end
end
if ARGV[5] ~= '0' then
  redis.call('SET', KEYS[3], ARGV[6], 'EX', ARGV[5])
end
return 1
