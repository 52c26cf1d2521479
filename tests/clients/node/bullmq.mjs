// BullMQ: a queue, two workers, retries, delays, repeated jobs and events.
import assert from 'node:assert/strict';
import { Queue, QueueEvents, Worker } from 'bullmq';
import { port, until } from './game.mjs';

const connection = { host: '127.0.0.1', port };
// All keys of a queue have one tag, so that a cluster has them in one slot.
const prefix = '{bull}';
const queue = new Queue('hearthside', { connection, prefix });
await queue.obliterate({ force: true });
const events = new QueueEvents('hearthside', { connection, prefix });
await events.waitUntilReady();
const done = [];
const work = async (job) => {
  if (job.name === 'flaky' && job.attemptsMade === 0) throw new Error('once');
  done.push(job.name);
  return job.data.n * 2;
};
const workers = [0, 1].map(() => new Worker('hearthside', work, { connection: { ...connection, maxRetriesPerRequest: null }, prefix, concurrency: 5 }));
await Promise.all(workers.map((worker) => worker.waitUntilReady()));
const jobs = await queue.addBulk(Array.from({ length: 50 }, (_, n) => ({ name: 'double', data: { n } })));
assert.deepEqual(await Promise.all(jobs.map((job) => job.waitUntilFinished(events))), jobs.map((_, n) => n * 2));
const flaky = await queue.add('flaky', { n: 4 }, { attempts: 2 });
assert.equal(await flaky.waitUntilFinished(events), 8);
const late = await queue.add('late', { n: 5 }, { delay: 100 });
assert.equal(await late.waitUntilFinished(events), 10);
await until('it is counted', async () => (await queue.getJobCounts('completed')).completed === 52);
assert.equal((await queue.getWorkers()).length, 2);
await Promise.all([...workers.map((worker) => worker.close()), events.close()]);
await queue.close();
