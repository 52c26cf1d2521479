// What the Node jobs have in common.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';

export const port = Number(process.env.PORT);
export const RESP = Number(process.env.PROTOCOL);

export const until = async (what, holds) => {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) {
    assert(Date.now() < deadline, what);
    await new Promise((resolve) => setImmediate(resolve));
  }
};

export const sql = (statement) =>
  execFileSync('psql', ['-XqAt', '-v', 'ON_ERROR_STOP=1', '-c', statement, process.env.STORE]).toString().trim();

// So many of the players 1 to 100 at random, player n about as often as 1/n says: the first much more often than the last.
export const zipf = (count) => Array.from({ length: count }, () => Math.floor(101 ** Math.random()));
