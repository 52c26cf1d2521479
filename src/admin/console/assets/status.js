// The view of the whole: what is there, since when, and what it holds.

import { actions } from './actions.js';
import { el, facts, fill } from './dom.js';
import * as plots from './plots.js';
import { ago, bytes, count, span, when } from './words.js';

/** A part that the sidecar needs: its state in a word, since when, and why. */
function light(title, { state, since, why }, more) {
  return el('li', { class: `card light ${state}` },
    el('div', { class: 'top' }, el('h2', {}, title), el('span', { class: 'state' }, state)),
    el('p', { class: 'note' }, since ? `since ${when(since)} UTC, ${ago(since).replace(' ago', '')}` : 'not asked yet'),
    why ? el('p', { class: 'bad' }, why) : null,
    more ? el('p', {}, more) : null);
}

function lights({ store, upstream, change_feed: feed }) {
  const servers = upstream.servers.map((server) => `${server.endpoint} ${server.is_up ? 'up' : 'down'}`).join(', ');
  const silence = feed.heard_ms_ago === null ? 'nothing heard yet' : `heard ${span(feed.heard_ms_ago)} ago`;
  const gaps = feed.gaps === 1 ? '1 gap' : `${count(feed.gaps)} gaps`;
  return [
    light('Store', store, `${store.name}${store.takes_writes ? '' : ', takes reads only'}`),
    light('Upstream', upstream, `${upstream.version || ''} ${servers}`.trim()),
    light('Change feed', feed, `${feed.kind}, ${silence}, ${gaps} since the start`),
  ];
}

function figures({ memory, clients, journal, config, mappings, mappings_not_up: down, mappings_not_told: untold, started, uptime_seconds: uptime }) {
  const full = memory.most_bytes ? memory.bytes / memory.most_bytes : 0;
  const gauge = el('meter', { min: 0, max: 1, high: 0.95, value: full, 'aria-label': 'Memory of cached keys' });
  return [
    el('div', { class: 'card' }, el('h2', {}, 'Memory'), gauge, facts([
      ['cached keys', `${bytes(memory.bytes)} of ${bytes(memory.most_bytes)}, ${count(memory.entries)} entries`],
      ['definitions', count(memory.definitions)],
      ['clients’ buffers', bytes(memory.client_buffer_bytes)],
    ])),
    el('div', { class: 'card' }, el('h2', {}, 'Clients and journal'), facts([
      ['connected', `${count(clients.connected)} of ${count(clients.most)}`],
      ['subscribing', count(clients.subscribing)],
      ['tracking', count(clients.tracking)],
      ['writes waiting', `${count(journal.waiting_keys)} keys, ${bytes(journal.bytes)}`],
      ['put aside', bytes(journal.aside_bytes)],
    ])),
    el('div', { class: 'card' }, el('h2', {}, 'Program'), facts([
      ['running', `${span(uptime * 1000)}, since ${when(started)} UTC`],
      ['configuration', config.file],
      ['read', `${ago(config.read)}, ${when(config.read)} UTC`],
      ['mappings', [count(mappings), down && `${count(down)} not up`, untold && `${count(untold)} whose changes are not told`].filter(Boolean).join(', ')],
    ])),
  ];
}

export function overview() {
  const lightList = el('ul', { class: 'grid', id: 'lights', 'aria-label': 'What the sidecar needs' });
  const cards = el('div', { class: 'grid', id: 'figures' });
  const drawn = plots.figures();
  async function refresh(status) {
    fill(lightList, lights(status));
    fill(cards, figures(status));
    await drawn.refresh();
  }
  return { name: 'overview', title: 'Overview', parts: [lightList, drawn.root, cards, actions()], refresh };
}
