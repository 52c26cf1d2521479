// The view of what is asked for most: top keys, what was slow, and keys of the upstream that might be worth a mapping.

import { read } from './api.js';
import { el, keyLink } from './dom.js';
import { rights } from './session.js';
import { table } from './table.js';
import { bytes, count, percent, span, when } from './words.js';

const HIDDEN = 'Keys are named for a token alone.';

const keyOf = (row) => (row.key === null
  ? el('span', { class: 'note' }, 'a key of this mapping')
  : keyLink(row));

function top() {
  const order = el('select', { id: 'top-by', change: () => refresh().catch(() => {}) },
    [['reads', 'reads'], ['misses', 'misses'], ['invalidations', 'invalidations'], ['bytes', 'bytes sent']]
      .map(([value, name]) => el('option', { value }, name)));
  const shown = (row) => (order.value === 'bytes' ? bytes(row.count) : count(row.count));
  const list = table({ caption: 'Owned keys of the last minute', empty: 'Nothing of that kind in the last minute.', columns: [
    { name: 'Key', head: true, of: (row) => row.key, show: keyOf },
    { name: 'Mapping', of: (row) => row.mapping, show: (row) => row.mapping && el('code', {}, row.mapping) },
    { name: 'Count', number: true, of: (row) => row.count, show: shown },
  ] });
  list.root.id = 'top-table';
  // What fails when another order is chosen fails again, and is told, with the next look.
  async function refresh() {
    const by = order.value;
    const rows = await read(`/api/top?by=${by}`);
    if (by === order.value) list.update(rows);
  }
  const block = el('div', { class: 'block' }, el('div', { class: 'row spread' },
    el('h2', {}, 'Top keys'), el('label', { class: 'inline' }, 'by ', order)), list.root);
  return { block, refresh };
}

function candidates() {
  const list = table({ caption: 'What passes through most, of the last minute: a part that varies is a placeholder',
    empty: 'Nothing with a placeholder passed through in the last minute.', columns: [
      { name: 'Keys', head: true, of: (row) => row.pattern, show: (row) => el('code', {}, row.pattern) },
      { name: 'Commands', number: true, of: (row) => row.count, show: (row) => count(row.count) },
      { name: 'Reads', number: true, of: (row) => row.reads / row.count, show: (row) => percent(row.reads / row.count) },
      { name: 'By', of: (row) => row.commands.join(' ') },
      { name: 'Type', of: (row) => row.type, show: (row) => row.type ?? el('span', { class: 'note' }, 'none that mappings have') },
      { name: 'Next', of: () => '', show: (row) => row.type
        && el('a', { href: `#new/${encodeURIComponent(row.pattern)}/${row.type}` }, 'make a mapping') },
    ] });
  list.root.id = 'candidate-table';
  const hidden = el('p', { class: 'note' }, HIDDEN);
  const block = el('div', { class: 'block' }, el('h2', {}, 'Candidates for a mapping'), list.root, hidden);
  async function refresh() {
    hidden.hidden = rights.token;
    list.root.hidden = !rights.token;
    if (rights.token) list.update(await read('/api/candidates'));
  }
  return { block, refresh };
}

function slow() {
  const list = table({ caption: 'The last commands on cached keys, loads and writes past slowlog.commands and slowlog.store',
    empty: 'Nothing was slow.', columns: [
      { name: 'What', head: true, of: (row) => row.command ?? row.kind },
      { name: 'Took', number: true, of: (row) => row.ms, show: (row) => span(row.ms) },
      { name: 'When', of: (row) => row.at, show: (row) => when(row.at) },
      { name: 'Key', of: (row) => row.key, show: (row) => (row.key === null ? '' : keyOf(row)) },
      { name: 'Mapping', of: (row) => row.mapping, show: (row) => el('code', {}, row.mapping) },
      { name: 'Because', of: (row) => row.cause },
      { name: 'Client', of: (row) => row.client, show: (row) => (row.client === null ? '' : `${row.name || row.address} (${row.client})`) },
    ] });
  list.root.id = 'slow-table';
  const block = el('div', { class: 'block' }, el('h2', {}, 'Slow'), list.root);
  return { block, refresh: async () => list.update(await read('/api/slowlog')) };
}

export function traffic() {
  const parts = [top(), candidates(), slow()];
  return {
    name: 'traffic',
    title: 'Traffic',
    parts: parts.map((part) => part.block),
    refresh: () => Promise.all(parts.map((part) => part.refresh())),
  };
}
