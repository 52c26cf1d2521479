// Tables that can be ordered by a column, and become cards on a phone.

import { el, fill } from './dom.js';
import { count } from './words.js';

/** More rows than these hold up the browser, and nobody reads them. */
const MOST = 400;

/**
 * A table of facts. A column is `{ name, of, show?, number?, head? }`: what it is ordered by, and how that is shown.
 * `update(rows)` shows others: the first ones in the order that was chosen.
 */
export function table({ caption, columns, empty }) {
  const order = { by: null, falls: true };
  let rows = [];
  const body = el('tbody');
  const heads = columns.map((column) => {
    const choose = () => {
      order.falls = order.by === column ? !order.falls : Boolean(column.number);
      order.by = column;
      show();
    };
    const button = el('button', { type: 'button', click: choose }, column.name);
    return el('th', { scope: 'col', class: column.number ? 'number' : null }, button);
  });

  function ordered() {
    if (!order.by) return rows;
    const { of } = order.by;
    const compare = (a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x === y) return 0;
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      return (x < y ? -1 : 1) * (order.falls ? -1 : 1);
    };
    return [...rows].sort(compare);
  }

  function cell(column, row) {
    const shown = column.show ? column.show(row) : column.of(row);
    const isVoid = shown === null || shown === undefined || shown === false || shown === '';
    const attributes = {
      'data-name': column.name,
      class: [column.number && 'number', isVoid && 'void'].filter(Boolean).join(' ') || null,
      scope: column.head ? 'row' : null,
    };
    return el(column.head ? 'th' : 'td', attributes, isVoid ? '' : shown);
  }

  function show() {
    columns.forEach((column, at) => {
      if (order.by === column) heads[at].setAttribute('aria-sort', order.falls ? 'descending' : 'ascending');
      else heads[at].removeAttribute('aria-sort');
    });
    fill(body, ordered().slice(0, MOST).map((row) => el('tr', {}, columns.map((column) => cell(column, row)))));
    nothing.hidden = rows.length > 0;
    whole.hidden = rows.length === 0;
    rest.hidden = rows.length <= MOST;
    rest.textContent = `The first ${MOST} of ${count(rows.length)} in this order. A click on a column’s name orders all of them by it.`;
  }

  const whole = el('table', {}, el('caption', {}, caption), el('thead', {}, el('tr', {}, heads)), body);
  const nothing = el('p', { class: 'empty' }, empty);
  const rest = el('p', { class: 'note rest', role: 'status' });
  const root = el('div', { class: 'framed' }, whole, nothing, rest);
  show();
  return {
    root,
    update(next) {
      rows = next;
      show();
    },
  };
}
