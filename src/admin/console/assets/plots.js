// The plots of the last ten minutes. The sidecar remembers them, so that a page that is opened now has a past.

import { read } from './api.js';
import { el } from './dom.js';
import { colour, onColours } from './theme.js';
import { brief, span } from './words.js';

const MOST = 300;
const HEIGHT = 150;
/** Seconds that are shown, and the least that an axis reaches up to. */
const PAST = 600;
const LEAST = 1;

/** How much a counter has grown between two samples, a second; nothing where it began again. */
const rate = (of) => (now, before) => {
  const seconds = (now.at_ms - before.at_ms) / 1000;
  const grown = of(now) - of(before);
  return seconds > 0 && grown >= 0 ? grown / seconds : null;
};
/** The share of one counter's growth in another's. */
const share = (part, whole) => (now, before) => {
  const all = whole(now) - whole(before);
  return all > 0 ? (part(now) - part(before)) / all : null;
};
const level = (name) => (now) => now[name];

const perSecond = (value) => `${brief(value)}/s`;
const inPercent = (value) => `${(value * 100).toFixed(value > 0.995 || value === 0 ? 0 : 1)} %`;
const loadTime = share((it) => it.load_micros / 1000, (it) => it.loads);

const plots = [
  { id: 'throughput', title: 'Throughput', words: perSecond, lines: [
    ['owned keys', rate(level('owned'))], ['passed through', rate(level('passed'))], ['others', rate(level('others'))]] },
  { id: 'hits', title: 'Hit ratio', words: inPercent, range: [0, 1], lines: [
    ['of reads of owned keys', share(level('hits'), (it) => it.hits + it.misses)]] },
  { id: 'latency', title: 'Latency', words: span, lines: [
    ['a load (mean)', loadTime], ['store answers in', level('store_ms')], ['upstream answers in', level('upstream_ms')]] },
  { id: 'loads', title: 'Loads', words: perSecond, lines: [
    ['loads', rate(level('loads'))], ['failed', rate(level('load_errors'))], ['forgotten', rate(level('invalidations'))]] },
  { id: 'lag', title: 'Lag of the change feed', words: span, lines: [
    ['a heartbeat takes', level('feed_ms')], ['nothing heard for', level('silent_ms')]] },
  { id: 'clients', title: 'Clients', words: brief, lines: [['connected', level('clients')]] },
];

/** What uPlot draws: the moments, and the values of each line. */
function drawn(samples, { lines }) {
  const pairs = samples.slice(1).map((now, at) => [now, samples[at]]);
  return [pairs.map(([now]) => now.at_ms / 1000), ...lines.map(([, of]) => pairs.map(([now, before]) => of(now, before)))];
}

const axis = (words) => ({
  stroke: colour('--faint'),
  grid: { stroke: colour('--line'), width: 1 },
  ticks: { show: false },
  font: '11px system-ui',
  ...(words ? { values: (_, values) => values.map((value) => (value === null ? '' : words(value))), size: 64 } : { size: 28 }),
});

const clock = (_, values) => values.map((value) => new Date(value * 1000).toTimeString().slice(0, 5));

function options(plot, width) {
  const [low, high] = plot.range ?? [0, null];
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    padding: [8, 8, 0, 0],
    scales: {
      x: { range: (_, __, last) => [last - PAST, last] },
      y: { range: (_, __, most) => [low, high ?? Math.max(most ?? 0, LEAST) * 1.1] },
    },
    axes: [{ ...axis(), values: clock, space: 60 }, { ...axis(plot.words), space: 36 }],
    series: [{}, ...plot.lines.map((_, at) => ({ stroke: colour(`--plot-${at + 1}`), width: 2, points: { show: false }, spanGaps: false }))],
  };
}

/** One plot: a picture with the latest values beside their names, which also say it to those who see no picture. */
function figure(plot) {
  const canvas = el('div', { class: 'canvas', 'aria-hidden': 'true' });
  const values = plot.lines.map(() => el('b', {}, '–'));
  const legend = el('ul', { class: 'legend' }, plot.lines.map(([name], at) => el('li', {},
    el('span', { class: `swatch line-${at + 1}`, 'aria-hidden': 'true' }), `${name} `, values[at])));
  const root = el('figure', { class: 'card plot', id: `plot-${plot.id}` }, el('h2', {}, plot.title), canvas, legend);
  let chart = null;
  let shown = null;
  const make = () => {
    chart?.destroy();
    chart = canvas.clientWidth > 0 && shown ? new uPlot(options(plot, canvas.clientWidth), shown, canvas) : null;
  };
  onColours(make);
  new ResizeObserver(() => {
    if (!chart) make();
    else if (canvas.clientWidth > 0 && chart.width !== canvas.clientWidth) chart.setSize({ width: canvas.clientWidth, height: HEIGHT });
  }).observe(canvas);
  return {
    root,
    show(samples) {
      shown = drawn(samples, plot);
      if (chart) chart.setData(shown);
      else make();
      values.forEach((place, at) => {
        const last = shown[at + 1].at(-1);
        place.textContent = last === null || last === undefined ? '–' : plot.words(last);
      });
    },
  };
}

export function figures() {
  const all = plots.map(figure);
  let samples = [];
  return {
    root: el('div', { class: 'grid plots', id: 'plots' }, all.map((one) => one.root)),
    async refresh() {
      const last = samples.at(-1)?.at_ms ?? -1;
      samples = [...samples, ...await read(`/api/history?after=${last}`)].slice(-MOST);
      if (samples.length > 1 && samples.at(-1).at_ms !== last) all.forEach((one) => one.show(samples));
    },
  };
}
