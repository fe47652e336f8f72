//! What Redis does in one step, in Lua. A room's lease is a hash: the owner's `node`, its `fence`,
//! and `until` when it lasts, in milliseconds of Redis' own clock. The hash outlives its lease for
//! a while, so that whoever takes the room next knows that it was somebody's.

/// KEYS: lease, fence counter. ARGV: node, fence known to it (or 0), lifetime, keep (ms).
/// Returns the owner's node, its fence, and whether the room moved to it just now.
///
/// A fence counts on from Redis' clock, so that it goes on growing even if Redis loses its data.
/// A lease of the same node under another fence is one whose answer got lost: it is taken anew,
/// so that nothing old that is still under way can touch it.
pub(super) const ACQUIRE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('HMGET', KEYS[1], 'node', 'fence', 'until')
local owner, fence = lease[1], lease[2]
local ours = owner == ARGV[1] and fence == ARGV[2]
if owner and not ours and owner ~= ARGV[1] and tonumber(lease[3]) > now then
  return {owner, tonumber(fence), 0}
end
local moved = 0
if not ours then
  if owner then moved = 1 end
  local last = tonumber(redis.call('GET', KEYS[2]) or '0')
  fence = string.format('%.0f', math.max(last + 1, now))
  redis.call('SET', KEYS[2], fence)
end
redis.call('HSET', KEYS[1], 'node', ARGV[1], 'fence', fence,
  'until', string.format('%.0f', now + ARGV[3]))
redis.call('PEXPIRE', KEYS[1], ARGV[3] + ARGV[4])
return {ARGV[1], tonumber(fence), moved}
";

/// KEYS: leases. ARGV: node, lifetime, keep (ms), then each lease's fence. Returns for each 1 if
/// it is renewed, 0 if it is somebody else's. One that Redis knows nothing of (it lost its data)
/// is written again.
pub(super) const RENEW: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local renewed = {}
for i, key in ipairs(KEYS) do
  local lease = redis.call('HMGET', key, 'node', 'fence')
  local fence = ARGV[3 + i]
  if not lease[1] or (lease[1] == ARGV[1] and lease[2] == fence) then
    redis.call('HSET', key, 'node', ARGV[1], 'fence', fence,
      'until', string.format('%.0f', now + ARGV[2]))
    redis.call('PEXPIRE', key, ARGV[2] + ARGV[3])
    renewed[i] = 1
  else
    renewed[i] = 0
  end
end
return renewed
";

/// KEYS: lease. ARGV: node, fence. Nothing is left of the room.
pub(super) const RELEASE: &str = r"
local lease = redis.call('HMGET', KEYS[1], 'node', 'fence')
if lease[1] == ARGV[1] and lease[2] == ARGV[2] then return redis.call('DEL', KEYS[1]) end
return 0
";

/// KEYS: leases. ARGV: node, keep (ms), then each lease's fence. They end now, and the next owner
/// knows that the rooms were somebody's.
pub(super) const ABANDON: &str = r"
local count = 0
for i, key in ipairs(KEYS) do
  local lease = redis.call('HMGET', key, 'node', 'fence')
  if lease[1] == ARGV[1] and lease[2] == ARGV[2 + i] then
    redis.call('HSET', key, 'until', '0')
    redis.call('PEXPIRE', key, ARGV[2])
    count = count + 1
  end
end
return count
";
