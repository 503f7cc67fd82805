-- Look up the cache and, on a miss, reserve: one atomic step before dispatch.
--
-- KEYS  1 marker that the counters are whole   2 cache entry   3 this worker's pending requests
--       4.. one counter hash per budget
-- ARGV  1 request id   2 provisional record   3 '1' to look up the cache
--       4 number of plans   5.. plans: amounts in nano-USD, dearest first
--       then, per budget: limit in nano-USD, expiry of its counter in Unix seconds
--
-- Returns {'hit', entry} | {'admitted', plan} | {'refused', budget, spent, reserved} | {'rebuilding'}.
-- `plan` and `budget` count from 1. A pending entry is "<amount>\n<budget keys, spaced>\n<record>".

local id, record = ARGV[1], ARGV[2]

if ARGV[3] == '1' then
  local entry = redis.call('GET', KEYS[2])
  if entry then
    redis.call('HSET', KEYS[3], id, '0\n\n' .. record)
    return {'hit', entry}
  end
end

local budgets = #KEYS - 3
local plans = tonumber(ARGV[4])
local at = 4 + plans

if budgets > 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  return {'rebuilding'}
end

local chosen = 1
local counters = {}
for b = 1, budgets do
  local counter = redis.call('HMGET', KEYS[3 + b], 'spent', 'reserved')
  counters[b] = counter
  local limit, spent = tonumber(ARGV[at + 2 * b - 1]), tonumber(counter[1] or 0)
  local room = limit - spent - tonumber(counter[2] or 0)
  while chosen <= plans and tonumber(ARGV[4 + chosen]) > room do
    chosen = chosen + 1
  end
  -- A spent budget refuses what is free of charge, too: its window is closed.
  if chosen > plans or limit <= spent then
    return {'refused', b, counter[1] or '0', counter[2] or '0'}
  end
end

local amount = ARGV[4 + chosen]
for b = 1, budgets do
  redis.call('HINCRBY', KEYS[3 + b], 'reserved', amount)
  if not counters[b][1] and not counters[b][2] then
    redis.call('EXPIREAT', KEYS[3 + b], ARGV[at + 2 * b])
  end
end
redis.call('HSET', KEYS[3], id, amount .. '\n' .. table.concat(KEYS, ' ', 4) .. '\n' .. record)
return {'admitted', chosen}
