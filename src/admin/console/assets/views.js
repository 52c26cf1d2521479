// The views of the page, of which one is shown and kept up to date: the one that the address names.

import { Refused } from './api.js';
import { byId, el } from './dom.js';
import * as head from './head.js';

const EVERY = 2000;

/** What is shown of an error; one of the page itself is for the browser's log, too. */
function words(error) {
  if (error instanceof Refused) return error.message;
  reportError(error);
  return `This page has a bug, please report it: ${error.message}`;
}

/** A view is `{ name, title, lead?, parts, refresh? }`; `refresh` is called again and again while it is shown. */
export function start(views) {
  const links = views.map((view) => el('a', { href: `#${view.name}` }, view.title));
  byId('views').append(...links);
  const sections = views.map((view) => {
    const title = el('h1', { tabindex: '-1' }, view.title);
    const lead = view.lead ? el('p', { class: 'lead' }, view.lead) : null;
    const attributes = { id: `view-${view.name}`, 'aria-label': view.title, hidden: true };
    return el('section', attributes, el('div', { class: 'block' }, title, lead), view.parts);
  });
  byId('main').append(...sections);
  let current = -1;

  async function refresh() {
    const view = views[current];
    if (!view || document.hidden) return;
    try {
      const status = await head.look();
      await view.refresh?.(status);
      if (views[current] === view) trouble('');
    } catch (error) {
      if (error.status === 401) location.reload();
      else if (views[current] === view) trouble(words(error));
    }
  }

  function show(isByHand) {
    // The part behind a slash is the view's own: `#key/user:1`.
    const name = location.hash.slice(1).split('/')[0];
    if (name === 'main') return;
    const next = Math.max(0, views.findIndex((view) => view.name === name));
    views[next].arrive?.();
    if (next === current) return;
    current = next;
    sections.forEach((section, at) => { section.hidden = at !== next; });
    links.forEach((link, at) => (at === next ? link.setAttribute('aria-current', 'page') : link.removeAttribute('aria-current')));
    document.title = `${views[next].title} · Hearthside`;
    if (isByHand) sections[next].querySelector('h1').focus();
    refresh();
  }

  // Whatever becomes of one look, there is a next one.
  const again = () => setTimeout(() => refresh().finally(again), EVERY);
  again();
  head.start();
  addEventListener('hashchange', () => show(true));
  document.addEventListener('visibilitychange', refresh);
  show(false);
}

/** Says above everything what went wrong; nothing where all is well. */
export function trouble(text) {
  const place = byId('trouble');
  place.hidden = text === '';
  if (place.textContent !== text) place.textContent = text;
}
