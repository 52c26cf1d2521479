// Socket.IO with its Redis adapter: two server processes, rooms and broadcasts across them.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { createServer } from 'node:http';
import { fileURLToPath } from 'node:url';
import { createAdapter } from '@socket.io/redis-adapter';
import { createClient } from 'redis';
import { Server } from 'socket.io';
import { io as connect } from 'socket.io-client';
import { port, RESP, until } from './game.mjs';

async function serve() {
  const open = () => createClient({ socket: { port }, RESP }).on('error', (error) => { throw error; }).connect();
  const [publisher, subscriber] = await Promise.all([open(), open()]);
  const http = createServer();
  const io = new Server(http, { adapter: createAdapter(publisher, subscriber, { requestsTimeout: 5000 }) });
  io.on('connection', (socket) => {
    socket.on('join', async (room, done) => { await socket.join(room); done(); });
    socket.on('say', (room, text) => io.to(room).emit('said', text));
    socket.on('count', async (done) => done((await io.fetchSockets()).length));
    socket.on('servers', async (done) => done(await io.of('/').adapter.serverCount()));
  });
  http.listen(0, () => process.send(http.address().port));
  process.on('message', async () => {
    io.close();
    await Promise.all([publisher.close(), subscriber.close()]);
    process.exit(0);
  });
}

async function check() {
  const servers = [0, 1].map(() => fork(fileURLToPath(import.meta.url), ['server']));
  process.on('exit', () => servers.forEach((server) => server.kill()));
  const ports = await Promise.all(servers.map((server) => new Promise((resolve) => server.once('message', resolve))));
  const players = await Promise.all(Array.from({ length: 10 }, (_, i) => new Promise((resolve) => {
    const socket = connect(`http://127.0.0.1:${ports[i % 2]}`, { transports: ['websocket'] });
    socket.heard = [];
    socket.on('said', (text) => socket.heard.push(text));
    socket.on('connect', () => resolve(socket));
  })));
  const ask = (socket, ...words) => new Promise((resolve) => socket.emit(...words, resolve));
  // With shared subscriptions NUMSUB counts sidecars, and what the adapter asks all servers for is incomplete.
  const exact = process.env.PUBSUB === 'exact';
  if (exact) await until('each server knows of the other', async () => (await ask(players[0], 'servers')) === 2);
  await Promise.all(players.slice(0, 4).map((socket) => ask(socket, 'join', 'room')));
  if (exact) assert.equal(await ask(players[1], 'count'), 10);
  players[9].emit('say', 'room', 'hello');
  await until('all in the room hear it, on both servers', () => players.slice(0, 4).every((socket) => socket.heard.length === 1));
  assert(players.slice(4).every((socket) => socket.heard.length === 0));
  players.forEach((socket) => socket.close());
  servers.forEach((server) => server.send('stop'));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.once('exit', resolve))));
}

await (process.argv[2] === 'server' ? serve() : check());
