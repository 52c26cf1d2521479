// The ordinary jobs of ioredis 6.
import assert from 'node:assert/strict';
import { Redis } from 'ioredis';
import { port, until } from './game.mjs';

const client = new Redis({ port, connectionName: 'ioredis', enableAutoPipelining: true });
const subscriber = new Redis({ port });

assert.equal(await client.ping(), 'PONG');
assert.equal(await client.client('GETNAME'), 'ioredis');
await client.del('{io}:n', '{io}:list', 'io:stream', 'io:queue');
const counted = await Promise.all(Array.from({ length: 200 }, () => client.incr('{io}:n')));
assert.equal(counted.at(-1), 200);
assert.equal((await client.hgetall('item:apple:def')).name, 'Apple');

const piped = await client.pipeline().set('io:a', 1).get('io:a').hget('item:apple:def', 'name').lpush('{io}:list', 'x').exec();
assert.deepEqual(piped, [[null, 'OK'], [null, '1'], [null, 'Apple'], [null, 1]]);
const multi = await client.multi().incr('{io}:n').hget('item:apple:def', 'name').llen('{io}:list').exec();
assert.deepEqual(multi.map(([, value]) => value), [201, 'Apple', 1]);
await client.watch('{io}:n');
await new Redis({ port }).incr('{io}:n').then(() => client.multi().incr('{io}:n').exec()).then((reply) => assert.equal(reply, null));

client.defineCommand('bump', { numberOfKeys: 1, lua: "return redis.call('incrby', KEYS[1], ARGV[1])" });
assert.equal(await client.bump('{io}:n', 10), 212);

const heard = [];
subscriber.on('message', (channel, message) => heard.push([channel, message]));
subscriber.on('pmessage', (pattern, channel, message) => heard.push([pattern, channel, message]));
assert.equal(await subscriber.subscribe('io:news', 'io:other'), 2);
assert.equal(await subscriber.psubscribe('io:n*'), 3);
assert.equal(await client.publish('io:news', 'hello'), 2);
await until('both came', () => heard.length === 2);
assert.deepEqual(heard.map((message) => message.at(-1)), ['hello', 'hello']);
assert.equal(await subscriber.unsubscribe('io:news', 'io:other'), 1);
assert.equal(await subscriber.punsubscribe('io:n*'), 0);
assert.equal(await subscriber.get('io:a'), '1');

const blocked = new Redis({ port });
const popped = blocked.blpop('io:queue', 0);
const read = new Redis({ port }).xread('BLOCK', 0, 'STREAMS', 'io:stream', '$');
await until('both wait', async () => /blocked_clients:2/.test(await client.info('clients')));
await client.rpush('io:queue', 'job');
await client.xadd('io:stream', '*', 'field', 'value');
assert.deepEqual(await popped, ['io:queue', 'job']);
assert.deepEqual((await read)[0][1][0][1], ['field', 'value']);

const keys = [];
for await (const found of client.scanStream({ match: '*io*' })) keys.push(...found);
assert(keys.includes('io:a') && keys.includes('{io}:n'));
const monitor = await client.duplicate().monitor();
const lines = [];
monitor.on('monitor', (_time, words) => lines.push(words));
await client.set('io:a', 2);
await until('the monitor sees it', () => lines.some((words) => words[0]?.toLowerCase() === 'set'));
await client.quit();
process.exit(0);
