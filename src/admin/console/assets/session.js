// Who looks: somebody who has shown the token, somebody who has not yet, or anybody where there is none.

import { Refused, read, token } from './api.js';
import { byId, el, fill } from './dom.js';

/** Whether something can be changed, and keys are named. */
export const rights = { token: false };

const listeners = new Set();

/** Calls `listener` when that has changed, and now. */
export function onRights(listener) {
  listeners.add(listener);
  listener();
}

/** Why a button cannot be pressed; nothing where it can. */
export const whyNot = () => (rights.token ? '' : 'Needs the token: admin.token_file is not set.');

function leave() {
  token.forget();
  location.reload();
}

function shown() {
  const session = byId('session');
  if (rights.token) fill(session, 'with the token', el('button', { type: 'button', id: 'leave' }, 'Leave'));
  else fill(session, 'read only: admin.token_file is not set');
  byId('leave')?.addEventListener('click', leave);
  listeners.forEach((listener) => listener());
}

/** The form that asks for the token; resolves when one was given. */
function asked(wasRefused) {
  return new Promise((resolve) => {
    const input = el('input', { type: 'password', id: 'token', autocomplete: 'current-password', required: true });
    const given = (event) => {
      event.preventDefault();
      token.set(input.value.trim());
      page.remove();
      resolve();
    };
    const user = el('input', { type: 'text', autocomplete: 'username', value: 'operator', hidden: true });
    const page = el('section', { id: 'sign-in', class: 'card' },
      el('h1', {}, 'Token'),
      el('p', { class: 'lead' }, 'This admin port shows what it knows to those who have the text of admin.token_file.'),
      wasRefused ? el('p', { class: 'bad', role: 'alert' }, 'That is not the token.') : null,
      el('form', { class: 'row', submit: given }, user,
        el('label', { class: 'field grow' }, 'Token', input),
        el('button', { class: 'main' }, 'Show')));
    byId('main').append(page);
    input.focus();
  });
}

/** Resolves when the port lets this page look. */
export async function begin() {
  for (;;) {
    try {
      const { token: isShown, asked: isAsked } = await read('/api/rights');
      rights.token = isShown;
      if (isShown || !isAsked) return shown();
      await asked(false);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.status === 401) {
        token.forget();
        await asked(true);
      } else {
        byId('health').textContent = error.message;
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }
}
