// The view of one key: who owns it, what is known of it, and why it was last forgotten.

import { Refused, act, read } from './api.js';
import { el, facts, fill } from './dom.js';
import { onRights, whyNot } from './session.js';
import { bytes, count, span, when } from './words.js';

const yesNo = (value) => (value === null || value === undefined ? '' : value ? 'yes' : 'no');

function shown(told) {
  const { forgotten } = told;
  return [
    el('div', { class: 'card' },
      el('h2', {}, el('code', {}, told.key)),
      el('p', { id: 'verdict' }, told.owner === 'upstream' ? 'It is the upstream’s: ' : `${told.owner}, ${told.state}: `, told.why),
      facts([
        ['mapping', told.mapping && el('code', {}, told.mapping)],
        ['row exists', yesNo(told.is_there)],
        ['type', told.type],
        ['loaded', told.loaded_at && `${when(told.loaded_at)} UTC, ${span(told.age_ms)} ago`],
        ['TTL left', told.ttl_ms === null ? '' : span(told.ttl_ms)],
        ['size', bytes(told.bytes)],
        ['epoch', told.mapping_epoch === null ? '' : `${told.epoch ?? 'none'}, of the mapping ${told.mapping_epoch}`],
        ['under way', told.is_under_way ? 'it is being loaded or written' : ''],
        ['writes wait', told.writes_wait ? 'deferred writes wait for the store' : ''],
        ['last forgotten', forgotten && `${forgotten.why}, ${span(forgotten.ago_ms)} ago`
          + `${forgotten.scope === 'mapping' ? ', with the whole mapping' : ''} (${when(forgotten.at)} UTC)`],
      ])),
    told.statement ? el('div', { class: 'card' }, el('h2', {}, 'The statement that loads it'), el('pre', {}, told.statement),
      told.parameters.length ? el('p', {}, 'with ', el('code', {}, told.parameters.map((text, at) => `$${at + 1} = ${text}`).join(', '))) : null)
      : null,
    told.plan ? el('div', { class: 'card' }, el('h2', {}, 'The store’s plan for it'), el('pre', {}, told.plan.join('\n'))) : null,
  ];
}

export function key() {
  const input = el('input', { id: 'key-input', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', required: true });
  const answer = el('div', { class: 'block', id: 'key-answer', 'aria-live': 'polite' });
  const outcome = el('p', { id: 'key-outcome', role: 'status' });
  const differences = el('div', { class: 'framed', id: 'key-differences', hidden: true });
  const why = el('p', { class: 'note', id: 'key-why' });
  const button = (id, text, path, then) => el('button', { type: 'button', id, click: () => input.reportValidity() && tried(path, then) }, text);

  async function tried(path, then) {
    outcome.textContent = '';
    outcome.className = '';
    differences.hidden = true;
    try {
      await then(`${path}?key=${encodeURIComponent(input.value)}`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      outcome.textContent = error.message;
      outcome.className = 'bad';
    }
  }

  const explain = async (path) => fill(answer, shown(await read(path)));
  const forget = async (path) => {
    const number = Number(await act(path));
    await explain(`/api/key?key=${encodeURIComponent(input.value)}`);
    outcome.textContent = number === 1 ? 'One key is forgotten.' : `${count(number)} keys are forgotten.`;
  };
  const differing = (row) => el('tr', {}, el('th', { scope: 'row' }, el('code', {}, row.name || 'value')),
    ...['memory', 'store'].map((side) => el('td', { 'data-name': side === 'memory' ? 'In memory' : 'In the store' }, row[side] === null ? 'not there' : el('code', {}, row[side]))));
  const compare = async (path) => {
    const told = JSON.parse(await act(path));
    const where = (isThere) => (isThere ? 'there' : 'no row');
    if (!told.in_memory) outcome.textContent = `Nothing is in memory; in the store: ${where(told.is_there_in_store)}.`;
    else if (!told.differences.length) outcome.textContent = `The same in memory and in the store: ${where(told.is_there_in_store)}.`;
    else {
      const all = told.differences.length + told.more;
      outcome.textContent = all === 1 ? 'One difference.' : `${count(all)} differences.`;
      outcome.className = 'doubt';
      differences.replaceChildren(el('table', {}, el('caption', {}, 'Where memory and the store differ'),
        el('thead', {}, el('tr', {}, ['Name', 'In memory', 'In the store'].map((name) => el('th', { scope: 'col' }, name)))),
        el('tbody', {}, told.differences.map(differing))));
    }
    differences.hidden = !told.differences.length;
  };
  const against = button('key-compare', 'Compare with the store', '/api/compare', compare);
  const plan = button('key-plan', 'Ask the store for its plan', '/api/key', (path) => explain(`${path}&plan`));
  const drop = button('key-forget', 'Forget', '/api/forget', forget);
  const given = (event) => {
    event.preventDefault();
    location.hash = `key/${encodeURIComponent(input.value)}`;
    tried('/api/key', explain);
  };
  const form = el('form', { class: 'row', submit: given },
    el('label', { class: 'field grow' }, 'Key', input), el('button', { class: 'main', id: 'key-explain' }, 'Explain'));
  onRights(() => {
    for (const one of [drop, against]) one.disabled = whyNot() !== '';
    why.textContent = whyNot() && `Compare and forget: ${whyNot()}`;
  });
  for (const one of [drop, against]) one.setAttribute('aria-describedby', 'key-why');

  /** Another view, or a bookmark, may name the key. */
  function arrive() {
    const named = decodeURIComponent(location.hash.slice('#key/'.length));
    if (named && named !== input.value) {
      input.value = named;
      tried('/api/key', explain);
    }
  }
  const box = el('div', { class: 'card' }, form, el('div', { class: 'row' }, plan, against, drop), why, outcome);
  return { name: 'key', title: 'Key', lead: 'Who owns a key, what is known of it, and why it was last forgotten.', parts: [box, differences, answer], arrive };
}
