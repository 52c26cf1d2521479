// Workloads 1 and 4 with node-redis: a command client and a subscriber client per process.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createClient } from 'redis';

const RESP = Number(process.env.PROTOCOL);
const options = { socket: { host: '127.0.0.1', port: Number(process.env.PORT) }, RESP, name: 'node-worker' };
const client = await createClient(options).on('error', (error) => { throw error; }).connect();
const subscriber = await createClient(options).on('error', (error) => { throw error; }).connect();
const sql = (statement) => execFileSync('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-c', statement, process.env.STORE]).toString().trim();
const until = async (what, holds) => {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) assert(Date.now() < deadline, what);
};
const plain = (reply) => ({ ...reply });

assert.equal(await client.ping(), 'PONG');
assert.equal(await client.clientGetName(), 'node-worker');

// Definitions and cached keys.
const location = plain(await client.hGetAll('location:gas_station:cache'));
assert.equal(location.name, 'Gas Station');
assert.deepEqual(JSON.parse(location.npcs), ['trader_ilya']);
assert.equal(await client.hGet('item:iron_ore:def', 'type'), 'material');
assert.equal(await client.hGet('item:nosuch:def', 'type') ?? null, null);
assert.equal(plain(await client.hGetAll('player:6:session')).websocket_connected, 'false');
assert.equal((await client.lRange('player:6:inventory', 0, -1)).length, 6);
assert.deepEqual(await client.exists(['player:6:session', 'player:100000:session', 'location:ruins:cache']), 2);
assert.equal(await client.hSet('player:6:session', { hp: '94' }), 0);
assert.equal(await client.hIncrBy('player:60:session', 'xp', 5) - 5, await client.hIncrBy('player:60:session', 'xp', -5));
await assert.rejects(client.hSet('player:6:session', 'hp', 'many'), /the field 'hp' cannot be written/);
await assert.rejects(client.rPush('player:6:inventory', 'x'), /takes no writes/);

// Automatic pipelining, and MULTI with owned reads among writes.
const names = await Promise.all(Array.from({ length: 500 }, (_, i) => client.hGet(i % 2 ? 'item:apple:def' : 'location:ruins:cache', 'name')));
names.forEach((name, i) => assert.equal(name, i % 2 ? 'Apple' : 'Ruins'));
await client.del(['{counts}:counter', '{counts}:members']);
const replies = await client.multi().incr('{counts}:counter').hGet('player:6:session', 'hp').sAdd('{counts}:members', ['a', 'b']).lLen('player:6:inventory').exec();
assert.deepEqual(replies, [1, '94', 2, 6]);

// A change in Postgres.
for (const hp of ['21', '22']) {
  sql(`UPDATE sessions SET hp = ${hp} WHERE character_id = 80`);
  await until('the new hp', async () => (await client.hGet('player:80:session', 'hp')) === hp);
}

// Sorted sets, an HTTP session store, a lock, a script, a blocking pop on its own connection.
await client.del(['board', 's:abc', 'jobs']);
await client.zAdd('board', [{ score: 3, value: 'ann' }, { score: 5, value: 'bob' }]);
assert.deepEqual(await client.zRange('board', 0, -1, { REV: true }), ['bob', 'ann']);
await client.set('s:abc', JSON.stringify({ user: 7 }), { expiration: { type: 'EX', value: 60 } });
assert.deepEqual(JSON.parse(await client.get('s:abc')), { user: 7 });
assert.equal(await client.set('lock:node', 'me', { condition: 'NX', expiration: { type: 'EX', value: 5 } }), 'OK');
assert.equal(await client.set('lock:node', 'you', { condition: 'NX', expiration: { type: 'EX', value: 5 } }), null);
await client.del('lock:node');
assert.equal(await client.eval('return ARGV[1]', { keys: ['k'], arguments: ['v'] }), 'v');
const worker = await client.duplicate().connect();
const job = worker.blPop('jobs', 10);
await client.rPush('jobs', 'one');
assert.equal((await job).element, 'one');

// Pub/Sub beside commands.
const heard = [];
await subscriber.subscribe('game:broadcast', (message) => heard.push(message));
await subscriber.pSubscribe('location:*', (message, channel) => heard.push(`${channel}=${message}`));
assert.equal(await client.publish('game:broadcast', 'hello'), 1);
assert.equal(await client.publish('location:ruins', 'noise'), 1);
await until('both messages', async () => { await client.ping(); return heard.length === 2; });
assert.deepEqual(heard, ['hello', 'location:ruins=noise']);
await subscriber.unsubscribe('game:broadcast');
await subscriber.pUnsubscribe('location:*');
// After subscriber mode node-redis gives Buffers in RESP2, from Redis itself too.
assert.equal(String(await subscriber.get('{counts}:counter')), '1');

await Promise.all([client.close(), subscriber.close(), worker.close()]);
