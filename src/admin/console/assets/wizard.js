// The view that makes a mapping: a table, a key, and what becomes of it: live examples, the configuration and the SQL.

import { Refused, propose, read } from './api.js';
import { decoded, el, facts } from './dom.js';
import { rights, whyNot } from './session.js';

const LATER = 300;

const field = (name, control) => el('label', { class: 'field grow' }, name, control);
const choice = (id, options) => el('select', { id }, options.map(([value, name]) => el('option', { value }, name)));
const text = (id, value) => el('input', { id, value, autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off' });

/** The last word of a table's name, as keys have it: `public.users` becomes `user`. */
const stem = (table) => table.split('.').at(-1).replaceAll('"', '').replace(/(?<![su])s$/, '');
const isWhole = (type) => /^(small|big)?int(eger|\d*)?$/i.test(type) || /^(integer|int)/i.test(type);

/** The kind of placeholder that takes the values of a column of this type, as it is written. */
function kindOf(type) {
  if (isWhole(type)) return ':int';
  return /^(uuid|date)$/i.test(type) ? `:${type.toLowerCase()}` : '';
}

/** A key for the rows of a table: its primary key's columns, one after the other. */
function suggested({ name, columns, key }) {
  const types = Object.fromEntries(columns);
  const names = key.length ? key : columns.slice(0, 1).map(([column]) => column);
  const holes = names.map((column) => `{${column.replace(/\W/g, '_')}${kindOf(types[column] ?? '')}}`);
  return `${stem(name)}:${holes.join(':')}`;
}

const holesOf = (pattern) => [...pattern.matchAll(/\{(\w+)(?::\w+)?\}/g)].map(([, name]) => name);

function copied(title, id, shown, note) {
  const text = el('pre', { id, tabindex: '0', 'aria-label': title }, shown);
  const copy = el('button', { type: 'button', click: async () => {
    try {
      await navigator.clipboard.writeText(shown);
      copy.textContent = 'Copied';
    } catch {
      // Over plain HTTP from another machine a page has no clipboard.
      getSelection().selectAllChildren(text);
      copy.textContent = 'Selected: press Ctrl+C';
    }
  } }, 'Copy');
  return el('div', { class: 'card' }, el('div', { class: 'row spread' }, el('h2', {}, title), copy),
    note ? el('p', { class: 'note' }, note) : null, text);
}

function drafted({ toml, faults, examples, triggers, grants }) {
  if (faults.length) return [el('div', { class: 'fault', role: 'alert', id: 'draft-faults' }, faults.join('\n')), copied('Configuration', 'draft-toml', toml)];
  const shown = examples.map(({ key, parts }) => el('div', { class: 'card' }, el('h3', {}, el('code', {}, key)),
    facts(parts.map(([name, value]) => [name || 'value', el('code', {}, value)]))));
  return [
    el('h2', {}, shown.length ? 'The first keys, as clients would see them' : 'The table has no row yet'),
    el('div', { class: 'grid', id: 'draft-examples' }, shown),
    copied('Configuration', 'draft-toml', toml, 'Add it to the configuration file, then send SIGHUP.'),
    triggers ? copied('Change triggers', 'draft-triggers', triggers, 'For the tables of this mapping, with what the mappings in force need of them. The command “hearthside triggers --install”, and the button, do the same once the configuration has the block.') : null,
    grants ? copied('Rights', 'draft-grants', grants, 'For the role of store.url.') : null,
  ].filter(Boolean);
}

export function wizard() {
  let tables = null;
  /** The tables are read again whenever the view is opened: somebody may have made one meanwhile. */
  let isToRead = true;
  let timer = null;
  let asking = new AbortController();
  let columnChoices = {};
  const table = choice('draft-table', []);
  const kind = choice('draft-kind', [['cached', 'cached, read through'], ['definition', 'definition, loaded at start']]);
  const shape = choice('draft-type', [['hash', 'hash: a field for each column'], ['string', 'string: one column'], ['set', 'set: one column of several rows']]);
  const value = choice('draft-value', []);
  const key = text('draft-key', '');
  const ttl = text('draft-ttl', '5m');
  const write = choice('draft-write', [['reject', 'refused'], ['through', 'saved at once (through)'], ['deferred', 'saved later (deferred)'], ['fill', 'taken for cache-aside (fill)']]);
  const role = text('draft-role', 'hearthside');
  const columns = el('fieldset', { id: 'draft-columns' });
  const answer = el('div', { class: 'block', id: 'draft', 'aria-live': 'polite' });
  const valueField = field('Column', value);
  const hidden = el('p', { class: 'note', id: 'draft-hidden' });
  const form = el('form', { class: 'card', submit: (event) => event.preventDefault() },
    el('div', { class: 'row end' }, field('Table', table), field('Key pattern', key)), columns,
    el('div', { class: 'row end' }, field('Kind', kind), field('Type', shape), valueField),
    el('div', { class: 'row end' }, field('Kept for (ttl)', ttl), field('Writes', write), field('Role for the rights', role)));

  const chosen = () => tables.find(({ name }) => name === table.value);

  /** A choice for each placeholder whose column has another name. */
  function showColumns() {
    const names = chosen()?.columns.map(([name]) => name) ?? [];
    const open = holesOf(key.value).filter((hole) => !names.includes(hole));
    const old = columnChoices;
    columnChoices = Object.fromEntries(open.map((hole, at) => {
      const select = choice(`draft-column-${hole}`, names.map((name) => [name, name]));
      select.value = old[hole]?.value ?? chosen()?.key[at] ?? names[0];
      return [hole, select];
    }));
    columns.hidden = open.length === 0;
    columns.replaceChildren(el('legend', {}, 'Which column is behind each placeholder?'),
      el('div', { class: 'row' }, open.map((hole) => field(`{${hole}}`, columnChoices[hole]))));
  }

  function wish() {
    return {
      is_definition: kind.value === 'definition',
      role: role.value,
      key: key.value,
      type: shape.value,
      table: table.value,
      value: shape.value === 'hash' ? '' : value.value,
      ttl: ttl.value,
      write: write.value,
      key_columns: Object.fromEntries(Object.entries(columnChoices).map(([hole, select]) => [hole, select.value])),
    };
  }

  async function ask() {
    valueField.hidden = shape.value === 'hash';
    if (!table.value || !key.value) return;
    // The store is spared what nobody waits for any more.
    asking.abort();
    asking = new AbortController();
    const { signal } = asking;
    answer.setAttribute('aria-busy', 'true');
    let made;
    try {
      made = drafted(await propose('/api/draft', wish(), signal));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      made = [el('p', { class: 'fault', role: 'alert' }, error.message)];
    }
    if (signal.aborted) return;
    answer.removeAttribute('aria-busy');
    answer.replaceChildren(...made);
  }

  function choose() {
    const { columns: all } = chosen();
    value.replaceChildren(...all.map(([name]) => el('option', { value: name }, name)));
    value.value = all.find(([name]) => !chosen().key.includes(name))?.[0] ?? all[0][0];
    key.value = suggested(chosen());
    showColumns();
    ask();
  }

  table.addEventListener('change', choose);
  for (const control of [kind, shape, value, write]) control.addEventListener('change', ask);
  form.addEventListener('input', ({ target }) => {
    if (target === key) showColumns();
    if (target.tagName !== 'INPUT') return;
    clearTimeout(timer);
    timer = setTimeout(ask, LATER);
  });
  columns.addEventListener('change', ask);

  async function load() {
    form.hidden = !rights.token;
    hidden.textContent = whyNot();
    hidden.hidden = rights.token;
    if (!isToRead || !rights.token) return;
    const before = table.value;
    tables = await read('/api/tables');
    isToRead = false;
    table.replaceChildren(...tables.map(({ name }) => el('option', { value: name }, name)));
    hidden.hidden = tables.length > 0;
    if (!tables.length) hidden.textContent = 'The role of store.url sees no table.';
    else if (!before) arrive(true);
    else if (tables.some(({ name }) => name === before)) table.value = before;
    else choose();
  }

  /** A candidate may name the key and the type. */
  function arrive(isFirst) {
    if (isFirst !== true) isToRead = true;
    if (!tables?.length) return;
    const [view, named, type] = location.hash.slice(1).split('/').map(decoded);
    if (view === 'new' && named) {
      const words = named.split(':');
      const likely = tables.find(({ name }) => words.includes(stem(name)) || words.includes(name));
      if (likely) table.value = likely.name;
      choose();
      key.value = named;
      if (type) shape.value = type;
      showColumns();
      ask();
    } else if (isFirst === true) choose();
  }

  return {
    name: 'new',
    title: 'New mapping',
    lead: 'Choose a table and what its keys are called. Nothing is changed: what comes of it is shown below.',
    parts: [hidden, form, answer],
    arrive,
    refresh: load,
  };
}
