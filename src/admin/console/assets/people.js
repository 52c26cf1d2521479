// The views of clients, and of events.

import { read } from './api.js';
import { el } from './dom.js';
import { table } from './table.js';
import { ago, brief, bytes, count, span } from './words.js';

export function clients() {
  const list = table({ caption: 'Connected now', empty: 'Nobody is connected.', columns: [
    { name: 'Client', head: true, of: (row) => row.id, show: (row) => [el('b', {}, row.name || row.address),
      el('span', { class: 'note' }, ` ${[row.name && row.address, row.library, row.user].filter(Boolean).join(', ')}`)] },
    { name: 'Id', number: true, of: (row) => row.id },
    { name: 'Last minute', number: true, of: (row) => row.requests_of_minute, show: (row) => count(row.requests_of_minute) },
    { name: 'Requests', number: true, of: (row) => row.requests, show: (row) => brief(row.requests) },
    { name: 'Sent', number: true, of: (row) => row.in_bytes, show: (row) => bytes(row.in_bytes) },
    { name: 'Received', number: true, of: (row) => row.out_bytes, show: (row) => bytes(row.out_bytes) },
    { name: 'Waits for it', number: true, of: (row) => row.waiting_bytes, show: (row) => (row.waiting_bytes > 0 || row.stalled_ms) &&
      el('span', { class: 'doubt' }, `${bytes(row.waiting_bytes)}${row.stalled_ms ? `, taken nothing for ${span(row.stalled_ms)}` : ''}`) },
    { name: 'Connected', number: true, of: (row) => row.age_seconds, show: (row) => span(row.age_seconds * 1000) },
    { name: 'Idle', number: true, of: (row) => row.idle_seconds, show: (row) => span(row.idle_seconds * 1000) },
    { name: 'Flags', of: (row) => row.flags },
  ] });
  list.root.id = 'client-table';
  const refresh = async () => list.update(await read('/api/clients'));
  return { name: 'clients', title: 'Clients', parts: [list.root], refresh };
}

const COLOURS = { error: 'bad', warn: 'doubt', info: 'good' };

export function events() {
  const list = table({ caption: 'The last 200 warnings, errors and recoveries; what was said again is one event',
    empty: 'Nothing has happened that an operator should know.', columns: [
      { name: 'What', head: true, of: (row) => row.message, show: (row) => [row.message, el('span', { class: 'note' }, row.details)] },
      { name: 'Level', of: (row) => row.level, show: (row) => el('span', { class: COLOURS[row.level] }, row.level) },
      { name: 'Mapping', of: (row) => row.mapping, show: (row) => row.mapping && el('code', {}, row.mapping) },
      { name: 'Times', number: true, of: (row) => row.count, show: (row) => count(row.count) },
      { name: 'Last', of: (row) => row.last, show: (row) => ago(row.last) },
      { name: 'First', of: (row) => row.first, show: (row) => (row.count > 1 ? ago(row.first) : '') },
    ] });
  list.root.id = 'event-table';
  const refresh = async () => list.update(await read('/api/events'));
  return { name: 'events', title: 'Events', parts: [list.root], refresh };
}
