/*
 * One column per frame. Keyframes are full bars with a notch; pseudo-labels are as high as they are sure, their colour says the same (blue
 * sure, orange unsure) and doubtful ones are hatched, so nothing hangs on colour alone. Accepted ones stand on a solid base, rejected
 * ones are crossed out, stale ones dotted. A slider to the keyboard and to screen readers.
 */

import { h } from "../dom.js";

const SURE = 0.75, DOUBTFUL = 0.5;

/* Orange, pale yellow, blue: a scale that every colour vision can order. */
export function confidenceColour(c) {
  const stops = [[213, 94, 0], [240, 205, 90], [40, 140, 210]], x = Math.max(0, Math.min(1, c)) * 2, k = Math.min(1, Math.floor(x)), f = x - k;
  return `rgb(${stops[k].map((v, i) => Math.round(v * (1 - f) + stops[k + 1][i] * f)).join(" ")})`;
}

export class Timeline {
  constructor(frames, onSeek) {
    this.frames = frames;
    this.labels = new Map();
    this.current = 0;
    this.canvas = h("canvas", { class: "timeline", id: "timeline", role: "slider", tabIndex: 0, "aria-label": "Timeline", "aria-valuemin": 0, "aria-valuemax": frames - 1, "aria-valuenow": 0 });
    const seek = (e) => {
      const box = this.canvas.getBoundingClientRect();
      onSeek(Math.max(0, Math.min(frames - 1, Math.floor(((e.clientX - box.left) / box.width) * frames))));
    };
    this.canvas.addEventListener("pointerdown", (e) => {
      try { this.canvas.setPointerCapture(e.pointerId); } catch { /* a pointer that is already gone */ }
      seek(e);
    });
    this.canvas.addEventListener("pointermove", (e) => { if (e.buttons & 1) seek(e); });
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
  }

  setLabels(labels) {
    this.labels = labels;
    this.setCurrent(this.current);
  }

  setCurrent(n) {
    this.current = n;
    this.canvas.setAttribute("aria-valuenow", n);
    this.canvas.setAttribute("aria-valuetext", `frame ${n}, ${describe(this.labels.get(n))}`);
    this.draw();
  }

  draw() {
    if (this.queued) return;
    this.queued = requestAnimationFrame(() => { this.queued = 0; this.paint(); });
  }

  paint() {
    const ratio = window.devicePixelRatio || 1, w = Math.round(this.canvas.clientWidth * ratio), height = Math.round(this.canvas.clientHeight * ratio);
    if (!w) return;
    this.canvas.width = w;
    this.canvas.height = height;
    const g = this.canvas.getContext("2d"), step = w / this.frames, style = getComputedStyle(this.canvas);
    const ink = { main: style.getPropertyValue("--ink"), dim: style.getPropertyValue("--dim"), key: style.getPropertyValue("--accent"), ground: style.getPropertyValue("--card") };
    const rows = [...this.labels.values()];
    rows.sort((a, b) => rank(a) - rank(b)); /* where columns are thinner than a pixel, keyframes and doubt stay visible */
    for (const l of rows) this.column(g, l, l.frame * step, Math.max(ratio, step - (step > 4 * ratio ? ratio : 0)), height, ratio, ink);
    const x = (this.current + 0.5) * step;
    g.fillStyle = ink.main;
    g.fillRect(x - ratio, 0, 2 * ratio, height);
    g.beginPath();
    g.moveTo(x - 5 * ratio, 0);
    g.lineTo(x + 5 * ratio, 0);
    g.lineTo(x, 6 * ratio);
    g.fill();
  }

  column(g, l, x, width, height, ratio, ink) {
    if (l.source === "manual") {
      g.fillStyle = ink.key;
      g.fillRect(x, 0, Math.max(2 * ratio, width), height);
      g.fillStyle = ink.ground;
      g.fillRect(x, height * 0.4, Math.max(2 * ratio, width), 2 * ratio);
      return;
    }
    if (l.source !== "pseudo") return;
    const sure = l.confidence ?? 0, top = height - 4 * ratio - (height - 12 * ratio) * Math.max(0.08, sure);
    g.globalAlpha = l.state === "rejected" || l.stale ? 0.35 : 1;
    g.fillStyle = confidenceColour((sure - DOUBTFUL) / (1 - DOUBTFUL));
    g.fillRect(x, top, width, height - 4 * ratio - top);
    g.globalAlpha = 1;
    g.fillStyle = ink.main;
    if (sure < SURE) for (let y = top; y < height - 4 * ratio; y += (sure < DOUBTFUL ? 4 : 8) * ratio) g.fillRect(x, y, width, ratio);
    if (l.state === "accepted") g.fillRect(x, height - 4 * ratio, width, 4 * ratio);
    if (l.state === "rejected") {
      g.strokeStyle = ink.main;
      g.lineWidth = ratio;
      g.beginPath();
      g.moveTo(x, height);
      g.lineTo(x + width, top);
      g.stroke();
    }
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.queued);
  }
}

const rank = (l) => (l.source === "manual" ? 2 : 1 - (l.confidence ?? 0));

export const percent = (c) => (c === null || c === undefined ? "" : `${Math.round(c * 100)} %`);

export function describe(l) {
  if (!l || l.source === "uncovered") return "no label";
  if (l.source === "manual") return "keyframe";
  if (l.source === "rejected") return "no usable label";
  const sure = l.confidence === null || l.confidence === undefined ? "" : `, confidence ${percent(l.confidence)}`;
  return `pseudo-label, ${l.state === "proposed" ? "to review" : l.state}${sure}${l.stale ? ", out of date: propagate again" : ""}`;
}
