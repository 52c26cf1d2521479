// The cache of node-redis in the process itself (client-side caching), on owned keys and on others, unchanged.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { BasicClientSideCache, BasicPooledClientSideCache, createClient, createClientPool } from 'redis';
import { port, RESP, sql, until, zipf } from './game.mjs';

const session = (player) => `player:${player}:session`;
const inventory = (player) => `player:${player}:inventory`;
const options = { socket: { host: '127.0.0.1', port }, RESP };
const plain = await createClient(options).connect();

const caching = async () => {
  const cache = new BasicClientSideCache({ maxEntries: 1000 });
  const client = createClient({ ...options, clientSideCache: cache });
  // A connection that is killed is told of here, and the client connects again.
  client.on('error', () => {});
  return { cache, client: await client.connect() };
};
// How many commands a client has sent, as the sidecar counts them.
const asked = async (id) => Number((await plain.sendCommand(['CLIENT', 'LIST', 'ID', `${id}`])).match(/tot-cmds=(\d+)/)[1]);

// What was read once is read here from then on, definitions and cached keys alike.
const { cache, client } = await caching();
const id = await client.clientId();
await plain.set('{cached}:plain', '1');
const reads = [
  () => client.hGet('item:iron_sword:def', 'name'),
  () => client.hGetAll(session(61)),
  () => client.lRange(inventory(61), 0, -1),
  () => client.get('{cached}:plain'),
];
const first = [];
for (const read of reads) first.push(await read());
assert.equal(first[0], 'Iron Sword');
assert.equal(cache.size(), reads.length);
const before = await asked(id);
for (let i = 0; i < 500; i += 1) for (const [at, read] of reads.entries()) assert.deepEqual(await read(), first[at]);
assert.equal(await asked(id), before, 'all of them were answered in the process');
assert.equal(cache.stats().hitCount, 500 * reads.length);

// Of reads as games do them 99 of 100 are answered here, by what the library counts and by what the sidecar does.
const players = zipf(20_000);
const { missCount } = cache.stats();
for (const player of players) await client.hGet(session(player), 'level');
assert(cache.stats().missCount - missCount <= players.length / 100, `${cache.stats().missCount - missCount} misses`);
assert((await asked(id)) - before <= players.length / 100, 'the sidecar has hardly been asked');

// What is read when an invalidation has come is new: after a change by SQL, by another client, and by itself.
const changes = [
  (hp) => sql(`UPDATE sessions SET hp = ${hp} WHERE character_id = 61`),
  (hp) => plain.hSet(session(61), 'hp', hp),
  (hp) => client.hSet(session(61), 'hp', hp),
];
for (let hp = 10; hp < 40; hp += 1) {
  await client.hGet(session(61), 'hp');
  const told = once(cache, 'invalidate');
  await changes[hp % changes.length](hp);
  assert.equal(String((await told)[0]), session(61));
  assert.equal(await client.hGet(session(61), 'hp'), `${hp}`);
}
const name = sql("SELECT name FROM items WHERE item_id = 'apple'");
assert.equal(await client.hGet('item:apple:def', 'name'), name);
for (const other of ['Pear', name]) {
  sql(`UPDATE items SET name = '${other}' WHERE item_id = 'apple'`);
  await until('a definition changes', async () => (await client.hGet('item:apple:def', 'name')) === other);
}
await plain.set('{cached}:plain', '2');
await until("the upstream's own keys change", async () => (await client.get('{cached}:plain')) === '2');

// A connection that is lost takes the cache with it: nothing that changed meanwhile is read as it was.
for (let hp = 50; hp < 55; hp += 1) {
  await client.hGet(session(61), 'hp');
  assert(cache.size() > 0);
  const back = new Promise((resolve) => { client.once('ready', resolve); });
  await plain.sendCommand(['CLIENT', 'KILL', 'ID', `${await client.clientId()}`]);
  sql(`UPDATE sessions SET hp = ${hp} WHERE character_id = 61`);
  await plain.hSet(session(62), 'hp', hp);
  await back;
  assert.equal(await client.hGet(session(62), 'hp'), `${hp}`);
  await until('what SQL has changed', async () => (await client.hGet(session(61), 'hp')) === `${hp}`);
}

// Told to forget everything, as after a gap of the change feed, it does.
assert.equal(await client.get('{cached}:plain'), '2');
const all = once(cache, 'invalidate');
await plain.flushAll();
assert.deepEqual(await all, [null]);
assert.equal(cache.size(), 0);
assert.equal(await client.get('{cached}:plain'), null);

// While rows change, no client sees a value again that is older than what it has seen.
const watch = async (done) => {
  const mine = await caching();
  let last = 0;
  while (!done.yet || last < 119) {
    const hp = Number(await mine.client.hGet(session(63), 'hp'));
    assert(last < 100 || hp >= last, `${hp} after ${last}`);
    last = hp;
    await new Promise((resolve) => setImmediate(resolve));
  }
  await mine.client.close();
};
const done = {};
const watching = [watch(done), watch(done), watch(done)];
for (let hp = 100; hp < 120; hp += 1) {
  await plain.hSet(session(64), 'hp', hp);
  sql(`UPDATE sessions SET hp = ${hp} WHERE character_id = 63`);
}
done.yet = true;
await Promise.all(watching);

// One cache for several connections: each of them tracks what it has read.
const shared = new BasicPooledClientSideCache();
const pool = createClientPool({ ...options }, { minimum: 3, maximum: 3, clientSideCache: shared });
await pool.connect();
await Promise.all(zipf(300).map((player) => pool.hGet(session(player), 'hp')));
for (const hp of ['71', '72', '73']) {
  sql(`UPDATE sessions SET hp = ${hp} WHERE character_id = 1`);
  await until('the pool sees it', async () => (await pool.hGet(session(1), 'hp')) === hp);
}
await pool.close();
await client.close();
await plain.close();
