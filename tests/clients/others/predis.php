<?php
// The ordinary jobs of Predis, a client in PHP itself.
require 'Predis/autoload.php';
function check($holds, $what) { if (!$holds) { fwrite(STDERR, "failed: $what\n"); exit(1); } }

$client = new Predis\Client(['port' => (int) getenv('PORT'), 'read_write_timeout' => 5]);
check((string) $client->ping() === 'PONG', 'ping');
$client->del(['predis:n', 'predis:list']);
check($client->incrby('predis:n', 5) === 5, 'incr');
check($client->hgetall('item:apple:def')['name'] === 'Apple', 'a definition');
$piped = $client->pipeline(function ($pipe) {
    for ($i = 0; $i < 100; $i++) $pipe->incr('predis:n');
});
check(end($piped) === 105, 'pipeline');
$multi = $client->transaction(function ($tx) { $tx->incr('predis:n'); $tx->hget('item:apple:def', 'name'); });
check($multi === [106, 'Apple'], 'transaction');
$seen = $client->transaction(['watch' => 'predis:n', 'cas' => true, 'retry' => 1], function ($tx) {
    $n = $tx->get('predis:n');
    $tx->multi();
    $tx->set('predis:n', $n + 1);
});
check((string) $seen[0] === 'OK' && $client->get('predis:n') === '107', 'check and set');
check($client->eval("return redis.call('get', KEYS[1])", 1, 'predis:n') === '107', 'eval');
check($client->blpop(['predis:nothing'], 1) === null, 'blpop');
foreach (new Predis\Collection\Iterator\Keyspace($client, 'predis:*') as $key) $found[] = $key;
check(in_array('predis:n', $found), 'scan');
$loop = $client->pubSubLoop();
$loop->subscribe('predis:news');
foreach ($loop as $message) {
    if ($message->kind === 'subscribe') {
        (new Predis\Client(['port' => (int) getenv('PORT')]))->publish('predis:news', 'hello');
    } else if ($message->kind === 'message') {
        check($message->payload === 'hello', 'message');
        $loop->unsubscribe();
    }
}
