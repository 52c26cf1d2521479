// An HTTP session store: express-session's with connect-redis 9.
import assert from 'node:assert/strict';
import { RedisStore } from 'connect-redis';
import { createClient } from 'redis';
import { port, RESP } from './game.mjs';

const client = await createClient({ socket: { port }, RESP }).connect();
const store = new RedisStore({ client, prefix: 's:', ttl: 100 });
const call = (name, ...words) => new Promise((resolve, reject) => store[name](...words, (error, value) => (error ? reject(error) : resolve(value))));
const session = { cookie: { originalMaxAge: null }, user: 'ann' };
await call('clear');
await call('set', 'one', session);
await call('set', 'two', { ...session, user: 'bob' });
assert.deepEqual(await call('get', 'one'), session);
assert.equal((await call('get', 'nosuch')) ?? null, null);
await call('touch', 'one', session);
assert((await client.ttl('s:one')) > 90);
assert.equal(await call('length'), 2);
assert.deepEqual((await call('ids')).sort(), ['one', 'two']);
assert.equal((await call('all')).length, 2);
await call('destroy', 'one');
assert.equal(await call('length'), 1);
await call('clear');
assert.equal(await call('length'), 0);
await client.close();
