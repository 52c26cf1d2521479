// Makes elements. What comes from elsewhere becomes text, never markup.

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

/** Puts `children` into `parent`, unless they are the same as what is there: a selection in it stays. */
export function fill(parent, ...children) {
  const next = el('div', {}, ...children);
  if (next.innerHTML !== parent.innerHTML) parent.replaceChildren(...next.childNodes);
}

/** Names and values, one below the other; those without a value are left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return el('dl', { class: 'facts' }, shown.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
}
