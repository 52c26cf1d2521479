// The view of one key: who owns it, what is known of it, and why it was last forgotten.

import { Refused, act, inquire, read } from './api.js';
import { decoded, el, facts, fill, named } from './dom.js';
import { onRights, whyNot } from './session.js';
import { bytes, count, cut, span, visible, when } from './words.js';

const yesNo = (value) => (value === null || value === undefined ? '' : value ? 'yes' : 'no');

function shown(told) {
  const { forgotten } = told;
  return [
    el('div', { class: 'card' },
      el('h2', {}, named(told.key)),
      el('p', { id: 'verdict' }, told.owner === 'upstream' ? 'It is the upstream’s: ' : `${told.owner}, ${told.state}: `, told.why),
      facts([
        ['mapping', told.mapping && el('code', {}, told.mapping)],
        ['changes are told', told.is_told === false ? el('span', { class: 'bad' }, 'no: triggers are missing, or switched off') : yesNo(told.is_told)],
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
      told.parameters.length ? el('p', {}, 'with ', named(told.parameters.map((text, at) => `$${at + 1} = ${text}`).join(', '))) : null)
      : null,
    told.plan ? el('div', { class: 'card' }, el('h2', {}, 'The store’s plan for it'), el('pre', {}, told.plan.join('\n'))) : null,
  ];
}

/** A glob that stands for this key and no other, both percent-encoded. */
const alone = (key) => key.replace(/%5c|\*|%2a|%3f|%5b/gi, '%5C$&');

/** An address may not be longer. */
const LONGEST = 60000;

/** The percent-encoded key behind `#key/` where it is no text but any bytes; what nobody has encoded is a text. */
function bytesOf(part) {
  if (/%(?![0-9a-f]{2})/i.test(part)) return null;
  try {
    decodeURIComponent(part);
    return null;
  } catch {
    return part;
  }
}

/** Bytes as they are shown: what is no text stands as `\xff`. */
const shownBytes = (part) => decoded(part).replace(/(?:%[0-9a-f]{2})+/gi, (codes) => codes.toLowerCase().replace(/%/g, '\\x'));

const differing = (row) => el('tr', {}, el('th', { scope: 'row' }, el('code', {}, row.name || 'value')),
  ...['memory', 'store'].map((side) => el('td', { 'data-name': side === 'memory' ? 'In memory' : 'In the store' }, row[side] === null ? 'not there' : el('code', {}, row[side]))));

const table = (differences) => el('table', {}, el('caption', {}, 'Where memory and the store differ'),
  el('thead', {}, el('tr', {}, ['Name', 'In memory', 'In the store'].map((name) => el('th', { scope: 'col' }, name)))),
  el('tbody', {}, differences.map(differing)));

export function key() {
  const input = el('input', { id: 'key-input', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false', required: true });
  const answer = el('div', { class: 'block', id: 'key-answer', 'aria-live': 'polite' });
  const outcome = el('p', { id: 'key-outcome', role: 'status' });
  const differences = el('div', { class: 'framed', id: 'key-differences', hidden: true });
  const why = el('p', { class: 'note', id: 'key-why' });
  const button = (id, text, ask) => el('button', { type: 'button', id, click: () => input.reportValidity() && asked(ask) }, text);

  /** What came of a question about a key. */
  function say(key, text, colour = '') {
    outcome.replaceChildren(...(text ? [el('code', {}, cut(visible(key), 120)), `: ${text}`] : []));
    outcome.className = colour;
  }

  /** A key that is no text: how the box shows it, and how it is asked for as long as the box is as it was. */
  let exact = { shown: '', encoded: '' };
  const encoded = () => (exact.shown && exact.shown === input.value ? exact.encoded : encodeURIComponent(input.value));

  let last = 0;
  /** Asks about the key in the box. `ask` is given it percent-encoded, and gives what shows the answer, unless something else was asked meanwhile. */
  async function asked(ask) {
    const [mine, key] = [last += 1, input.value];
    say(key, '');
    differences.hidden = true;
    let show;
    try {
      if (encoded().length > LONGEST) throw new Refused(414, 'It is too long for an address: HEARTHSIDE EXPLAIN takes it.');
      show = await ask(encoded(), key);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      show = () => say(key, error.message, 'bad');
    }
    if (mine === last) show();
  }

  async function explain(key) {
    const told = await read(`/api/key?key=${key}`);
    return () => fill(answer, shown(told));
  }
  async function explainWithPlan(key) {
    const told = await read(`/api/key?key=${key}&plan`, null);
    return () => fill(answer, shown(told));
  }
  async function forget(key, name) {
    const number = Number(await act(`/api/forget?key=${alone(key)}`));
    const show = await explain(key);
    return () => {
      show();
      say(name, number ? 'One key is forgotten.' : 'Nothing of it was in memory.');
    };
  }
  async function compare(key, name) {
    const told = await inquire(`/api/compare?key=${key}`);
    return () => {
      const where = told.is_there_in_store ? 'there' : 'no row';
      const all = told.differences.length + told.more;
      if (!told.in_memory) return say(name, `Nothing is in memory; in the store: ${where}.`);
      if (!all) return say(name, `The same in memory and in the store: ${where}.`);
      differences.replaceChildren(table(told.differences));
      differences.hidden = false;
      return say(name, all === 1 ? 'One difference.' : `${count(all)} differences.`, 'doubt');
    };
  }
  const against = button('key-compare', 'Compare with the store', compare);
  const plan = button('key-plan', 'Ask the store for its plan', explainWithPlan);
  const drop = button('key-forget', 'Forget', forget);
  const given = (event) => {
    event.preventDefault();
    location.hash = `key/${encoded()}`;
    asked(explain);
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
    const part = location.hash.slice('#key/'.length);
    const raw = bytesOf(part);
    const name = raw === null ? decoded(part) : shownBytes(part);
    const asKey = raw ?? encodeURIComponent(name);
    if (!name || asKey === encoded()) return;
    // A box keeps no line breaks: it shows what it has kept.
    input.value = visible(name);
    exact = { shown: input.value, encoded: asKey };
    asked(explain);
  }
  const box = el('div', { class: 'card' }, form, el('div', { class: 'row' }, plan, against, drop), why, outcome);
  return { name: 'key', title: 'Key', lead: 'Who owns a key, what is known of it, and why it was last forgotten.', parts: [box, differences, answer], arrive };
}
