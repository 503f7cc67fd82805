-- Give back what an admitted request holds beyond what it can still cost.
--
-- KEYS  1 the worker's pending requests   2.. the counter hashes that it holds something in
-- ARGV  1 request id   2 nano-USD, and   3 tokens that it can still cost   4.. unit of each counter (u, t, r or p)
--
-- Never takes more than is held, and nothing for a request that is settled.

local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then
  return 0
end
local amounts, first, nusd, tokens, rest = string.match(entry, '^([^\n]*)\n([^\n]*)\n(%d+) (%d+)(\n.*)$')
if tonumber(ARGV[2]) >= tonumber(nusd) and tonumber(ARGV[3]) >= tonumber(tokens) then
  return 0
end
local least = {u = math.min(tonumber(ARGV[2]), tonumber(nusd)), t = math.min(tonumber(ARGV[3]), tonumber(tokens))}
local held, b = {}, 0
for amount in string.gmatch(amounts, '%d+') do
  b = b + 1
  local still = least[ARGV[3 + b]]
  held[b] = amount
  if still and still < tonumber(amount) then
    held[b] = string.format('%.0f', still)
    redis.call('HINCRBY', KEYS[1 + b], 'reserved', string.format('%.0f', still - tonumber(amount)))
  end
end
redis.call('HSET', KEYS[1], ARGV[1],
  table.concat(held, ' ') .. '\n' .. first .. '\n' .. string.format('%.0f %.0f', least.u, least.t) .. rest)
return 1
