// The view of the mappings: what of each is in memory, and what happens to it.

import { read } from './api.js';
import { el } from './dom.js';
import { modes } from './modes.js';
import { table } from './table.js';
import { ago, brief, bytes, count, percent, span } from './words.js';

const words = (row) => [`${row.kind} ${row.type} of ${row.source}`, row.kind === 'cached' && `writes: ${row.write}`,
  row.ttl_ms !== null && `kept for ${span(row.ttl_ms)}`].filter(Boolean).join(', ');

const columns = (button) => [
  { name: 'Mapping', head: true, of: (row) => row.mapping, show: (row) => [
    el('code', {}, row.mapping),
    el('span', { class: 'note' }, words(row)),
    row.last_error && el('span', { class: 'note bad' }, `${ago(row.last_error_at)}: ${row.last_error}`),
  ] },
  { name: 'State', of: (row) => row.state, show: (row) => [
    el('span', { class: row.state === 'up' ? 'good' : 'bad' }, row.state),
    row.is_told === false && el('span', { class: 'note doubt' }, 'its changes are not told: triggers are missing'),
  ] },
  { name: 'Mode', of: (row) => row.mode, show: button },
  { name: 'Entries', number: true, of: (row) => row.entries, show: (row) => count(row.entries) },
  { name: 'Bytes', number: true, of: (row) => row.bytes, show: (row) => bytes(row.bytes) },
  { name: 'Reads/s', number: true, of: (row) => row.reads_per_second, show: (row) => brief(row.reads_per_second) },
  { name: 'Hits', number: true, of: (row) => row.hit_ratio, show: (row) => percent(row.hit_ratio) },
  { name: 'Loads/s', number: true, of: (row) => row.loads_per_second, show: (row) => brief(row.loads_per_second) },
  { name: 'Loads', number: true, of: (row) => row.loads, show: (row) => brief(row.loads) },
  { name: 'A load takes', number: true, of: (row) => row.load_mean_ms, show: (row) => span(row.load_mean_ms) },
  { name: 'Forgotten', number: true, of: (row) => row.invalidations, show: (row) => brief(row.invalidations) },
  { name: 'Evicted', number: true, of: (row) => row.evictions, show: (row) => brief(row.evictions) },
  { name: 'Last change', number: true, of: (row) => row.last_change_at, show: (row) => ago(row.last_change_at) },
  { name: 'Errors', number: true, of: (row) => row.errors, show: (row) => count(row.errors) },
];

/** What has been read of a mapping since it was last looked at, a second. */
function paced(rows, before, seconds) {
  const old = new Map(before.map((row) => [row.mapping, row]));
  return rows.map((row) => {
    const last = old.get(row.mapping);
    const grown = (of) => (last && row.hits !== null && seconds > 0 ? Math.max(0, of(row) - of(last)) / seconds : null);
    return { ...row, reads_per_second: grown((it) => it.hits + it.misses), loads_per_second: grown((it) => it.loads) };
  });
}

export function mappings() {
  const mode = modes(() => refresh());
  const list = table({
    caption: 'What is counted is counted since the start',
    columns: columns(mode.button),
    empty: 'The configuration has no mapping.',
  });
  list.root.id = 'mapping-table';
  let before = [];
  let at = 0;
  async function refresh() {
    const rows = await read('/api/mappings');
    const now = performance.now();
    list.update(paced(rows, before, (now - at) / 1000));
    [before, at] = [rows, now];
  }
  return { name: 'mappings', title: 'Mappings', parts: [...mode.parts, list.root], refresh };
}
