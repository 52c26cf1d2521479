// Light, dark, or as the system has it.

import { byId } from './dom.js';

const STORED = 'hearthside.colours';
const changed = new Set();
const system = matchMedia('(prefers-color-scheme: dark)');

const tell = () => changed.forEach((listener) => listener());

/** Calls `listener` when the colours have changed. */
export const onColours = (listener) => changed.add(listener);

/** A colour of the page as it is now: `var(--name)`, which a canvas cannot read. */
export function colour(name) {
  const probe = document.createElement('span');
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

export function start() {
  const choice = byId('theme');
  const show = (theme) => {
    document.documentElement.dataset.theme = theme;
    tell();
  };
  choice.value = localStorage.getItem(STORED) ?? 'auto';
  show(choice.value);
  choice.addEventListener('change', () => {
    localStorage.setItem(STORED, choice.value);
    show(choice.value);
  });
  system.addEventListener('change', tell);
}
