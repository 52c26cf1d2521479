# The ordinary jobs of redis-rb.
require 'redis'

def check(holds, what) = holds || abort("failed: #{what}")

redis = Redis.new(port: ENV['PORT'].to_i, id: 'ruby')
check(redis.ping == 'PONG', 'ping')
redis.del('rb:n', 'rb:list', 'rb:queue', 'rb:stream')
check(redis.incrby('rb:n', 5) == 5, 'incr')
check(redis.hgetall('item:apple:def')['name'] == 'Apple', 'a definition')
piped = redis.pipelined { |pipe| 100.times { pipe.incr('rb:n') } }
check(piped.last == 105, 'pipeline')
multi = redis.multi { |tx| tx.incr('rb:n'); tx.hget('item:apple:def', 'name') }
check(multi == [106, 'Apple'], 'multi')
result = redis.watch('rb:n') do
  Redis.new(port: ENV['PORT'].to_i).incr('rb:n')
  redis.multi { |tx| tx.incr('rb:n') }
end
check(result.nil?, 'watch')
check(redis.eval("return redis.call('get', KEYS[1])", ['rb:n']) == '107', 'eval')
check(redis.blpop('rb:nothing', timeout: 1).nil?, 'blpop of nothing')
id = redis.xadd('rb:stream', { field: 'value' })
check(redis.xrange('rb:stream') == [[id, { 'field' => 'value' }]], 'stream')
check(redis.scan_each(match: 'rb:*').include?('rb:n'), 'scan')
waiting = Thread.new { Redis.new(port: ENV['PORT'].to_i).blpop('rb:queue', timeout: 10) }
Thread.pass until redis.info('clients')['blocked_clients'] == '1'
redis.rpush('rb:queue', 'job')
check(waiting.value == ['rb:queue', 'job'], 'blpop')
heard = nil
Redis.new(port: ENV['PORT'].to_i).subscribe('rb:news') do |on|
  on.subscribe { Redis.new(port: ENV['PORT'].to_i).publish('rb:news', 'hello') }
  on.message { |_, message| heard = message; raise StopIteration }
rescue StopIteration
end rescue StopIteration
check(heard == 'hello', 'subscribe')
