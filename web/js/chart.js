/* Line charts as SVG: axes, up to eight series told apart by colour and dash, a legend, a title for screen readers. */

import { h } from "./dom.js";

const NS = "http://www.w3.org/2000/svg", WIDTH = 560, HEIGHT = 260, LEFT = 52, RIGHT = 12, TOP = 12, BOTTOM = 34;
const DASHES = ["", "6 3", "2 3", "8 3 2 3", "", "6 3", "2 3", "8 3 2 3"];

function svg(tag, attributes, ...children) {
  const el = document.createElementNS(NS, tag);
  for (const [k, v] of Object.entries(attributes)) el.setAttribute(k, v);
  el.append(...children);
  return el;
}

/* Round steps that cover lo..hi in about `count` parts. */
function ticks(lo, hi, count) {
  const raw = (hi - lo) / count, power = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((s) => s * power >= raw) * power;
  const out = [];
  for (let k = Math.ceil(lo / step - 1e-6); k * step <= hi + step * 1e-6; k++) out.push(Number((k * step).toPrecision(12)));
  return out;
}

const short = (v) => (v !== 0 && (Math.abs(v) < 1e-3 || Math.abs(v) >= 1e5) ? v.toExponential(1) : String(Number(v.toPrecision(4))));

function range(values, fixed) {
  if (fixed) return fixed;
  let lo = Math.min(...values), hi = Math.max(...values);
  if (!(hi > lo)) { lo -= Math.abs(lo) * 0.1 || 0.5; hi += Math.abs(hi) * 0.1 || 0.5; }
  return [lo, hi];
}

/* series: [{name, points: [[x, y], ...]}]; xRange, yRange: [lo, hi]; xTick(v): text under the axis */
export function chart({ title, series, xName = "", xRange, yRange, xTick = short, marks = false }) {
  const all = series.flatMap((s) => s.points);
  if (!all.length) return h("p", { class: "dim" }, "No values yet.");
  const [x0, x1] = range(all.map((p) => p[0]), xRange), [y0, y1] = range(all.map((p) => p[1]), yRange);
  const px = (x) => LEFT + ((x - x0) / (x1 - x0)) * (WIDTH - LEFT - RIGHT), py = (y) => HEIGHT - BOTTOM - ((y - y0) / (y1 - y0)) * (HEIGHT - TOP - BOTTOM);
  const root = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", class: "chart", "aria-label": `${title}: ${series.map((s) => s.name).join(", ")}` });
  for (const v of ticks(y0, y1, 5))
    root.append(svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: py(v), y2: py(v), class: "grid" }), svg("text", { x: LEFT - 6, y: py(v) + 4, class: "tick end" }, short(v)));
  for (const v of ticks(x0, x1, 6)) root.append(svg("text", { x: px(v), y: HEIGHT - BOTTOM + 16, class: "tick mid" }, xTick(v)));
  root.append(svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, class: "tick mid" }, xName));
  series.forEach(({ points }, i) => {
    root.append(svg("polyline", { points: points.map(([x, y]) => `${px(x).toFixed(1)},${py(y).toFixed(1)}`).join(" "), class: `line series${i % 8}`, "stroke-dasharray": DASHES[i % 8] }));
    if (marks || points.length === 1) for (const [x, y] of points) root.append(svg("circle", { cx: px(x), cy: py(y), r: 3.5, class: `dot series${i % 8}` }));
  });
  const key = (i) => svg("svg", { viewBox: "0 0 28 8", width: 28, height: 8, "aria-hidden": "true" }, svg("line", { x1: 0, x2: 28, y1: 4, y2: 4, class: `line series${i % 8}`, "stroke-dasharray": DASHES[i % 8] }));
  const last = (s) => s.points.at(-1)?.[1];
  return h("figure", { class: "figure" }, h("figcaption", {}, title), root,
    h("div", { class: "keys" }, series.map((s, i) => h("span", {}, key(i), s.name, marks && last(s) !== undefined ? h("span", { class: "dim" }, ` ${short(last(s))}`) : ""))));
}

/* Curve points {step, name, value} as charts: those whose names end alike ("loss") share one. */
export class Curves {
  constructor() {
    this.element = h("div", { class: "charts" });
    this.series = new Map(); /* name -> Map(step -> value) */
  }

  add({ name, step, value }) {
    if (!Number.isFinite(value)) return;
    if (!this.series.has(name)) this.series.set(name, new Map());
    this.series.get(name).set(step, value);
    this.queued ??= setTimeout(() => { this.queued = undefined; this.draw(); }, 200);
  }

  /* {name: [[step, value], ...]} as the service keeps them */
  addAll(curves) {
    for (const [name, points] of Object.entries(curves)) for (const [step, value] of points) this.add({ name, step, value });
  }

  draw() {
    const groups = grouped([...this.series.keys()]);
    this.element.replaceChildren(...[...groups].map(([title, names]) => chart({
      title, xName: "step", marks: false,
      series: names.map((name) => ({ name, points: [...this.series.get(name)].sort((a, b) => a[0] - b[0]) })),
    })));
  }

}

const groupOf = (name) => (/loss/.test(name) ? "Loss" : /lr|rate/.test(name) ? "Learning rate" : /time|speed|per_s/.test(name) ? "Speed" : "Quality");

function grouped(names) {
  const out = new Map();
  for (const n of names) out.set(groupOf(n), [...(out.get(groupOf(n)) || []), n]);
  return out;
}
