// Makes elements. What comes from elsewhere becomes text, never markup.

import { cut, visible } from './words.js';

/** An element with these attributes and children; a function is a listener, `false` and `null` are left out. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === 'function') made.addEventListener(key, value);
    else made.setAttribute(key, value === true ? '' : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** The element of this id. */
export const byId = (id) => document.getElementById(id);

/**
 * Puts `children` into `parent` in place of those that differ: a selection in the others stays, and so does the focus
 * on a link, or something with an id, that is there again.
 */
export function fill(parent, ...children) {
  const next = [...el('div', {}, ...children).childNodes];
  const active = parent.contains(document.activeElement) ? document.activeElement : null;
  const [id, link] = [active?.id, active?.getAttribute('href')];
  next.forEach((child, at) => {
    const old = parent.childNodes[at];
    if (!old) parent.append(child);
    else if (!old.isEqualNode(child)) old.replaceWith(child);
  });
  while (parent.childNodes.length > next.length) parent.lastChild.remove();
  if (!active || parent.contains(document.activeElement)) return;
  if (id) byId(id)?.focus();
  else if (link) parent.querySelector(`[href="${CSS.escape(link)}"]`)?.focus();
}

/** What a name may have at most to be shown whole. */
const NAME = 120;

/** A name as it can be read; of a long one the beginning, and all of it where somebody wants to see it. */
export function named(name) {
  const text = visible(name);
  if (text.length <= NAME) return el('code', {}, text);
  const more = `Show all ${text.length.toLocaleString('en')} characters`;
  return el('details', {}, el('summary', {}, el('code', {}, cut(text, NAME)), ' ', more), el('code', {}, text));
}

/** A link to the view of a key. One that is no text is told percent-encoded, too. */
export function keyLink(row) {
  const part = row.key_encoded ?? encodeURIComponent(row.key);
  return el('a', { href: `#key/${part}` }, el('code', {}, cut(visible(row.key), NAME)));
}

/** A part of the address as a text. What nobody has encoded, a lone % too, stands for itself. */
export function decoded(part) {
  return part.replace(/(?:%[0-9a-f]{2})+/gi, (codes) => {
    try {
      return decodeURIComponent(codes);
    } catch {
      return codes;
    }
  });
}

/** Names and values, one below the other; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return el('dl', { class: 'facts' }, shown.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
}
