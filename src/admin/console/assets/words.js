// Numbers and moments as they are read.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumFractionDigits: 1, notation: 'compact' });
const exact = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });

const isNone = (value) => value === null || value === undefined;

/** 12,345 */
export const count = (value) => (isNone(value) ? '' : whole.format(value));
/** 12.3K */
export const brief = (value) => (isNone(value) ? '' : Math.abs(value) < 1000 ? exact.format(value) : short.format(value));
/** 97.6 % */
export const percent = (ratio) => (isNone(ratio) ? '' : `${(ratio * 100).toFixed(1)} %`);

/** 1.4 MiB */
export function bytes(value) {
  if (isNone(value)) return '';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at ? value.toFixed(1) : value} ${units[at]}`;
}

/** 3 h 12 min */
export function span(ms) {
  if (isNone(ms)) return '';
  if (ms < 1000) return `${exact.format(ms)} ms`;
  if (ms < 10000) return `${(ms / 1000).toFixed(1).replace('.0', '')} s`;
  const seconds = Math.floor(ms / 1000);
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const at = parts.findIndex(([size]) => seconds >= size);
  const [size, unit] = parts[at];
  const rest = parts[at + 1];
  const more = rest ? Math.floor((seconds % size) / rest[0]) : 0;
  return `${Math.floor(seconds / size)} ${unit}${more && at < 3 ? ` ${more} ${rest[1]}` : ''}`;
}

/** A text whose characters can all be seen: those that cannot, and those that turn others around, stand as their codes. */
export const visible = (text) => text.replace(
  /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
  (sign) => `\\u{${sign.charCodeAt(0).toString(16)}}`,
);

/** The beginning of a text that is longer than so many characters. */
export const cut = (text, most) => (text.length <= most ? text : `${text.slice(0, most).replace(/[\ud800-\udbff]$/, '')}…`);

/** How long ago a moment was. */
export const ago = (moment) => (moment ? `${span(Math.max(0, Date.now() - Date.parse(moment)))} ago` : '');

/** 2026-11-28 03:44:36 */
export const when = (moment) => (moment ? moment.slice(0, 19).replace('T', ' ') : '');
