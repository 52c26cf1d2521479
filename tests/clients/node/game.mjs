// What the Node jobs have in common.
import assert from 'node:assert/strict';

export const port = Number(process.env.PORT);
export const RESP = Number(process.env.PROTOCOL);

export const until = async (what, holds) => {
  const deadline = Date.now() + 10_000;
  while (!(await holds())) {
    assert(Date.now() < deadline, what);
    await new Promise((resolve) => setImmediate(resolve));
  }
};
