// What the page does: each action asks first, says what came of it, and can be pressed by those with the token alone.

import { Refused, act } from './api.js';
import { byId, el } from './dom.js';
import { onRights, whyNot } from './session.js';

/** Asks whether it is meant; true if it is. */
export function sure(title, text, word) {
  const dialog = byId('sure');
  byId('sure-title').textContent = title;
  byId('sure-text').textContent = text;
  byId('sure-yes').textContent = word;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true });
  });
}

const list = [
  { id: 'pause', name: 'Pause', path: '/api/pause', title: 'Hold commands for the upstream back?',
    text: 'Clients wait for 30 seconds, or until you resume. Owned keys are answered meanwhile.' },
  { id: 'resume', name: 'Resume', path: '/api/resume' },
  { id: 'reload', name: 'Reload', path: '/api/reload', title: 'Read everything again?',
    text: 'The schema is looked at again, what is cached is forgotten, and all definitions are loaded again. The configuration file is read at SIGHUP alone.' },
  { id: 'invalidate', name: 'Invalidate', pattern: true, path: '/api/forget', title: 'Forget these keys?',
    text: 'Cached keys that match are loaded again when they are read, and definitions at once.' },
  { id: 'triggers', name: 'Install triggers', path: '/api/triggers', title: 'Make the change triggers that are missing?',
    text: 'In the store, for the tables of the mappings in force. A writer waits for a table’s lock for 3 seconds at most.' },
];

export function actions() {
  const outcome = el('p', { id: 'action-outcome', class: 'outcome', role: 'status' });
  const why = el('p', { class: 'note', id: 'action-why' });
  const pattern = el('input', { id: 'invalidate-pattern', autocomplete: 'off', spellcheck: 'false', placeholder: 'player:*' });

  async function run(action) {
    if (action.pattern && pattern.value === '') return pattern.focus();
    const text = action.pattern ? `${pattern.value}: ${action.text}` : action.text;
    if (action.title && !await sure(action.title, text, action.name)) return;
    outcome.textContent = `${action.name}: under way`;
    outcome.className = 'outcome';
    try {
      const query = action.pattern ? `?key=${encodeURIComponent(pattern.value)}` : '';
      const said = await act(action.path + query);
      outcome.textContent = `${action.name}: ${action.pattern ? `${said} forgotten or loaded again` : said}`;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      outcome.textContent = `${action.name}: ${error.message}`;
      outcome.className = 'outcome bad';
    }
  }

  const buttons = list.map((action) =>
    el('button', { type: 'button', id: `do-${action.id}`, 'aria-describedby': 'action-why', click: () => run(action) }, action.name));
  const at = (id) => buttons[list.findIndex((action) => action.id === id)];
  onRights(() => {
    for (const button of [...buttons, pattern]) button.disabled = whyNot() !== '';
    why.textContent = whyNot();
  });
  return el('div', { class: 'card', id: 'actions' },
    el('h2', {}, 'Actions'),
    el('div', { class: 'row' }, at('pause'), at('resume'), at('reload'), at('triggers')),
    el('div', { class: 'row end' }, el('label', { class: 'field grow' }, 'Keys to forget: a key, or a pattern with *', pattern), at('invalidate')),
    why, outcome);
}
