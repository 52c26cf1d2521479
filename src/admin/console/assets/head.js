// The head of the page: in one line how the sidecar is. What it says is never older than it looks.

import { Refused, read } from './api.js';
import { byId } from './dom.js';
import { count, span, when } from './words.js';

/** What was heard so many milliseconds ago says nothing of now. */
const STALE = 8000;

let heard = Date.now();
let isLost = false;
let said = { text: 'connecting', isGood: true };

function show() {
  if (document.hidden) return;
  const isSilent = isLost || Date.now() - heard > STALE;
  const { text, isGood } = isSilent ? { text: `nothing heard since ${when(new Date(heard).toISOString())} UTC` } : said;
  const health = byId('health');
  if (health.textContent !== text) health.textContent = text;
  health.className = isGood ? '' : 'bad';
}

function told(status) {
  const parts = [['store', status.store], ['upstream', status.upstream], ['change feed', status.change_feed]];
  const wrong = parts.filter(([, part]) => part.state !== 'up').map(([name, part]) => `${name} ${part.state}`);
  const { mappings_not_up: down, mappings_not_told: untold } = status;
  if (down) wrong.push(`${count(down)} ${down === 1 ? 'mapping' : 'mappings'} not up`);
  if (untold) wrong.push(`changes of ${count(untold)} ${untold === 1 ? 'mapping' : 'mappings'} not told`);
  const running = `all is up, running for ${span(status.uptime_seconds * 1000)}`;
  return { text: wrong.length ? wrong.join(', ') : running, isGood: wrong.length === 0 };
}

/** Asks how it is, and shows it; every view begins with it. */
export async function look() {
  try {
    const status = await read('/api/status');
    byId('version').textContent = `${status.version}${status.commit ? ` (${status.commit.slice(0, 10)})` : ''}`;
    [heard, isLost, said] = [Date.now(), false, told(status)];
    return status;
  } catch (error) {
    isLost = !(error instanceof Refused) || error.status === 0;
    // It answers, and not what was asked.
    if (!isLost) [heard, said] = [Date.now(), { text: error.message, isGood: false }];
    throw error;
  } finally {
    show();
  }
}

/** Shows from now on by a clock of its own when nothing comes any more. */
export function start() {
  setInterval(show, 1000);
}
