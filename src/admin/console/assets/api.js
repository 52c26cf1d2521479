// Asks the admin port that this page came from.

const STORED = 'hearthside.token';

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
  try {
    answer = await fetch(path, { ...init, headers: { ...headers, ...init.headers }, cache: 'no-store' });
  } catch {
    throw new Refused(0, 'The sidecar does not answer: it may have ended, or the network is cut.');
  }
  const text = await answer.text();
  if (!answer.ok) throw new Refused(answer.status, text.trim() || `HTTP ${answer.status}`);
  return text;
}

/** Facts at a path. */
export const read = async (path) => JSON.parse(await ask(path));

/** Does something; what the port says of it. */
export const act = async (path) => (await ask(path, { method: 'POST' })).trim();

/** Facts about what is sent. */
export const propose = async (path, body) =>
  JSON.parse(await ask(path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'Content-Type': 'application/json' },
  }));
