// Asks the admin port that this page came from.

const STORED = 'hearthside.token';

/** So long an answer that is only looked at may take, in milliseconds. */
const PATIENCE = 10000;

/** The token, for as long as this tab is open; nowhere else does anybody remember it. */
export const token = {
  get: () => sessionStorage.getItem(STORED) ?? '',
  set: (text) => sessionStorage.setItem(STORED, text),
  forget: () => sessionStorage.removeItem(STORED),
};

/** What the port answered instead of what was asked for. */
export class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path, init = {}) {
  const headers = token.get() ? { Authorization: `Bearer ${token.get()}` } : {};
  let answer;
  let text;
  try {
    answer = await fetch(path, { ...init, headers: { ...headers, ...init.headers }, cache: 'no-store' });
    // The connection may end in the middle of it.
    text = await answer.text();
  } catch {
    throw new Refused(0, 'The sidecar does not answer: it may have ended, or the network is cut.');
  }
  if (!answer.ok) throw new Refused(answer.status, text.trim() || `HTTP ${answer.status}`);
  return text;
}

function facts(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(0, 'What answers is not the sidecar, or only a part of its answer has come.');
  }
}

/** Facts at a path. Who waits for the store gives no end of the patience. */
export const read = async (path, signal = AbortSignal.timeout(PATIENCE)) => facts(await ask(path, { signal }));

/** Does something; what the port says of it. */
export const act = async (path) => (await ask(path, { method: 'POST' })).trim();

/** Facts for which the port does something. */
export const inquire = async (path) => facts(await act(path));

/** Facts about what is sent, until nobody wants them any more. */
export const propose = async (path, body, signal) =>
  facts(await ask(path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'Content-Type': 'application/json' },
    signal,
  }));
