<?php
// The ordinary jobs of the phpredis extension.
function check($holds, $what) { if (!$holds) { fwrite(STDERR, "failed: $what\n"); exit(1); } }

$redis = new Redis();
$redis->connect('127.0.0.1', (int) getenv('PORT'));
check($redis->ping() === true, 'ping');
$redis->client('setname', 'php');
check($redis->client('getname') === 'php', 'name');
$redis->del('php:n', 'php:list', 'php:hash', 'php:zset', 'php:queue');
check($redis->incrBy('php:n', 5) === 5, 'incr');
check($redis->hGetAll('item:apple:def')['name'] === 'Apple', 'a definition');
check($redis->hMSet('php:hash', ['a' => 1, 'b' => 2]) && $redis->hLen('php:hash') === 2, 'hash');
check($redis->zAdd('php:zset', 1, 'x', 2, 'y') === 2 && $redis->zRange('php:zset', 0, -1, true) == ['x' => 1.0, 'y' => 2.0], 'zset');
$multi = $redis->multi()->incr('php:n')->hGet('item:apple:def', 'name')->exec();
check($multi === [6, 'Apple'], 'multi');
$piped = $redis->multi(Redis::PIPELINE)->set('php:a', '1')->get('php:a')->exec();
check($piped === [true, '1'], 'pipeline');
$redis->watch('php:n');
$other = new Redis();
$other->connect('127.0.0.1', (int) getenv('PORT'));
$other->incr('php:n');
check($redis->multi()->incr('php:n')->exec() === false, 'watch');
check($redis->eval("return {KEYS[1], redis.call('incr', KEYS[1])}", ['php:n'], 1) === ['php:n', 8], 'eval');
check($redis->blPop(['php:queue'], 1) === [], 'blpop of nothing');
$other->rPush('php:queue', 'job');
check($redis->blPop(['php:queue'], 1) === ['php:queue', 'job'], 'blpop');
$redis->setOption(Redis::OPT_SERIALIZER, Redis::SERIALIZER_PHP);
$redis->set('php:object', ['deep' => [1, 2]]);
check($redis->get('php:object') === ['deep' => [1, 2]], 'serializer');
if (getenv('TOPOLOGY') === 'cluster') {
    check($redis->select(3) === false && str_contains($redis->getLastError(), 'cluster'), 'a cluster has one database');
} else {
    $redis->select(3);
    check($redis->get('php:n') === false && $redis->set('php:n', 1), 'select');
}
// The first page may be empty, of a cluster's first node above all.
[$iterator, $found] = [null, []];
do {
    $found = array_merge($found, $other->scan($iterator, 'php:*', 1000) ?: []);
} while ($iterator > 0);
check(in_array('php:a', $found), 'scan');

// A session handler.
ini_set('session.save_handler', 'redis');
ini_set('session.save_path', 'tcp://127.0.0.1:' . getenv('PORT'));
ini_set('session.use_cookies', '0');
session_id('hearthside');
session_start();
$_SESSION['user'] = 'ann';
session_write_close();
session_start();
check($_SESSION['user'] === 'ann', 'session');

$heard = null;
$other->setOption(Redis::OPT_READ_TIMEOUT, 5);
if (($child = pcntl_fork()) === 0) {
    $publisher = new Redis();
    $publisher->connect('127.0.0.1', (int) getenv('PORT'));
    while ($publisher->publish('php:news', 'hello') === 0) usleep(1000);
    exit(0);
}
try {
    $other->subscribe(['php:news'], function ($redis, $channel, $message) use (&$heard) { $heard = $message; $redis->close(); });
} catch (RedisException $closed) {
}
pcntl_waitpid($child, $status);
check($heard === 'hello', 'subscribe');
