-- Give back the reservation, book the use, append the record, store the answer: all or nothing.
--
-- KEYS  1 the worker's pending requests   2 stream of settled spend   3 cache entry   4 marker that the counters
--       are whole   5 the claim of whoever takes them from the ledger   6 what the janitor booked for this request
--       7 set once a request of another epoch is booked   8.. the counter hashes
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
-- A guess (ARGV 7) at what is not held does nothing: the truth came first, or another janitor.

local id, record, used_at = ARGV[1], ARGV[2], 7
local PER_COUNTER = 3
local BOOKED_SECONDS = 604800
local MADE_ANEW_SECONDS = 35000000 -- of a rolling counter: until the next request sets it right

local admitted, is_guess = ARGV[3] == '1', ARGV[7] ~= '0'
local held = admitted and redis.call('HGET', KEYS[1], id)
if held then
  -- First of all: a full Redis allows this write, and after it the rest of the script.
  redis.call('HDEL', KEYS[1], id)
elseif is_guess then
  return 0
end
-- Before the counters: a script that fails keeps what it has done, and the record matters most.
redis.call('XADD', KEYS[2], '*', 'record', record)

local counters = #KEYS - 7
local used, moves = {}, false
for b = 1, counters do
  used[b] = ARGV[used_at + (b - 1) * PER_COUNTER + 1]
  moves = moves or used[b] ~= '0'
end

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
      redis.call('EXPIRE', key, MADE_ANEW_SECONDS)
    end
  end
  if string.sub(amount, 1, 1) == '-' then
    redis.call('HINCRBY', key, 'lowered', 1) -- or whoever has summed up the ledger before would raise it again
  end
  local spent = redis.call('HINCRBY', key, 'spent', amount)
  if ARGV[at + 3] ~= '0' and string.format('%.0f', spent) == amount then
    redis.call('EXPIREAT', key, ARGV[at + 3])
  end
end

local function give_back(b, amount)
  local key = KEYS[7 + b]
  local left = redis.call('HINCRBY', key, 'reserved', '-' .. amount)
  if left < 0 then
    redis.call('HSET', key, 'reserved', '0') -- it was lost meanwhile, and must not be room that nobody granted
  end
  if left <= 0 and used[b] == '0' and redis.call('HEXISTS', key, 'spent') == 0 then
    redis.call('DEL', key)
  end
end

local booked -- what the counters have of it already; nil where they must not move
if admitted and counters > 0 then
  local epoch = redis.call('GET', KEYS[4])
  local guess = not held and redis.call('GET', KEYS[6])
  -- Once it is booked in an epoch that is not its own, only this tells a repeat.
  local is_new = moves and epoch ~= ARGV[4] and redis.call('SET', KEYS[7], '1', 'NX', 'EX', BOOKED_SECONDS)
  if moves and not epoch and (held or guess or is_new) then
    -- The ledger may have been summed up without this. A repeat is in it: workers send those until the counters are
    -- whole, which they would never be.
    redis.call('DEL', KEYS[5])
  end
  if held then
    booked = {}
    for amount in string.gmatch(string.match(held, '^[^\n]*'), '%d+') do
      booked[#booked + 1] = '0'
      if amount ~= '0' then
        give_back(#booked, amount)
      end
    end
  elseif guess then
    redis.call('DEL', KEYS[6])
    booked = {}
    for amount in string.gmatch(guess, '%d+') do
      booked[#booked + 1] = amount
    end
  elseif epoch and is_new then
    booked = {}
  end
end
if booked then
  for b = 1, counters do
    local before = booked[b] or '0'
    book(b, before == '0' and used[b] or string.format('%.0f', tonumber(used[b]) - tonumber(before)))
  end
elseif admitted and not held then
  return 0
end
if is_guess then
  redis.call('SET', KEYS[6], table.concat(used, ' '), 'EX', ARGV[7])
end
if ARGV[5] ~= '0' then
  redis.call('SET', KEYS[3], ARGV[6], 'EX', ARGV[5])
end
return 1
