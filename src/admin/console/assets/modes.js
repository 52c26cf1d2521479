// Who answers for the keys of a mapping, and the dialog that changes it. Only those with the token can.

import { sure } from './actions.js';
import { Refused, inquire } from './api.js';
import { byId, el } from './dom.js';
import { whyNot } from './session.js';

const MODES = [
  ['on', 'The sidecar answers, from the store.'],
  ['fallback', 'The sidecar answers, and the upstream for keys that the store has not.'],
  ['shadow', 'The upstream answers; what the store has is compared with that.'],
  ['off', 'The upstream answers, as if the mapping were not there.'],
];

const words = (row) => (row.percent < 100 ? `${row.mode} ${row.percent} %` : row.mode);

const idOf = (mapping) => `mode-of-${encodeURIComponent(mapping)}`;

/** A dialog, and what came of it last; `button(row)` opens it, `changed` is called when a mode is another. */
export function modes(changed) {
  const outcome = el('p', { id: 'mode-outcome', class: 'outcome', role: 'status' });
  const title = el('h2', { id: 'mode-title' });
  const percent = el('input', { id: 'mode-percent', type: 'number', min: '0', max: '100', step: '1', required: true });
  let mapping = '';
  const back = () => byId(idOf(mapping))?.focus();

  async function choose(mode) {
    if (!percent.reportValidity()) return;
    const of = mapping;
    const query = new URLSearchParams({ mapping: of, mode, percent: percent.value });
    dialog.close();
    const text = `${of}: from now on clients get what the upstream has under these keys, whatever the store has.`;
    if (mode === 'off' && !await sure('Give these keys to the upstream?', text, 'Switch off')) return back();
    outcome.textContent = `${of}: under way`;
    outcome.className = 'outcome';
    try {
      const [fact] = await inquire(`/api/mode?${query}`);
      outcome.textContent = `${of}: ${words(fact)}${fact.note ? `; ${fact.note}` : ''}`;
      await changed();
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      outcome.textContent = `${of}: ${error.message}`;
      outcome.className = 'outcome bad';
    }
    if (document.activeElement === document.body) back();
  }

  const choices = MODES.map(([mode, text]) => el('div', { class: 'choice' },
    el('button', { type: 'button', id: `mode-${mode}`, 'aria-describedby': `mode-${mode}-is`, click: () => choose(mode) }, mode),
    el('span', { class: 'note', id: `mode-${mode}-is` }, text)));
  const dialog = el('dialog', { id: 'modes', 'aria-labelledby': 'mode-title', close: back },
    el('form', { method: 'dialog' }, title,
      el('label', { class: 'field' }, 'For so many of a hundred keys', percent), choices,
      el('div', { class: 'row' }, el('button', { value: 'no', formnovalidate: true }, 'Cancel'))));

  function open(row) {
    mapping = row.mapping;
    title.textContent = `Mode of ${mapping}: ${words(row)}`;
    percent.value = row.percent;
    dialog.showModal();
  }

  const button = (row) => el('button', {
    type: 'button', class: 'mode', id: idOf(row.mapping), disabled: whyNot() !== '', title: whyNot() || null,
    'aria-label': `Mode of ${row.mapping}: ${words(row)}`, click: () => open(row),
  }, words(row));
  return { parts: [outcome, dialog], button };
}
