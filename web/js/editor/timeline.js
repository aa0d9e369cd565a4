/*
 * One column per frame: keyframes as marks, labels coloured by confidence (red to green), accepted ones with a base line, rejected ones
 * hollow, the playhead on top. A slider to the keyboard and to screen readers.
 */

import { h } from "../dom.js";

export function confidenceColour(c) {
  return `hsl(${Math.round(Math.max(0, Math.min(1, c)) * 130)} 65% 45%)`;
}

export class Timeline {
  constructor(frames, onSeek) {
    this.frames = frames;
    this.labels = new Map();
    this.current = 0;
    this.canvas = h("canvas", { class: "timeline", role: "slider", tabIndex: 0, "aria-label": "Frame", "aria-valuemin": 0, "aria-valuemax": frames - 1 });
    const seek = (e) => {
      const box = this.canvas.getBoundingClientRect();
      onSeek(Math.max(0, Math.min(frames - 1, Math.floor(((e.clientX - box.left) / box.width) * frames))));
    };
    this.canvas.addEventListener("pointerdown", (e) => { this.canvas.setPointerCapture(e.pointerId); seek(e); });
    this.canvas.addEventListener("pointermove", (e) => { if (e.buttons & 1) seek(e); });
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.canvas);
  }

  setLabels(list) {
    this.labels = new Map(list.map((l) => [l.frame, l]));
    this.draw();
  }

  setCurrent(n) {
    this.current = n;
    const l = this.labels.get(n);
    this.canvas.setAttribute("aria-valuenow", n);
    this.canvas.setAttribute("aria-valuetext", `frame ${n}, ${describe(l)}`);
    this.draw();
  }

  draw() {
    const ratio = window.devicePixelRatio || 1, w = this.canvas.clientWidth * ratio, height = this.canvas.clientHeight * ratio;
    if (!w) return;
    this.canvas.width = w;
    this.canvas.height = height;
    const g = this.canvas.getContext("2d"), step = w / this.frames, style = getComputedStyle(this.canvas);
    for (const [n, l] of this.labels) {
      const x = n * step, width = Math.max(1, step - (step > 3 * ratio ? 1 : 0));
      if (l.source === "manual") {
        g.fillStyle = style.getPropertyValue("--accent");
        g.fillRect(x, 0, Math.max(2 * ratio, width), height);
      } else if (l.source === "pseudo" && l.state !== "rejected") {
        g.fillStyle = confidenceColour(l.confidence ?? 0);
        g.fillRect(x, height * 0.3, width, height * 0.7);
        if (l.state === "accepted") {
          g.fillStyle = style.getPropertyValue("--ink");
          g.fillRect(x, height - 3 * ratio, width, 3 * ratio);
        }
      } else if (l.state === "rejected") {
        g.strokeStyle = style.getPropertyValue("--dim");
        g.strokeRect(x + 0.5, height * 0.3, width - 1, height * 0.7 - 1);
      }
    }
    g.fillStyle = style.getPropertyValue("--ink");
    g.fillRect((this.current + 0.5) * step - ratio, 0, 2 * ratio, height);
  }

  close() { this.observer.disconnect(); }
}

export function describe(l) {
  if (!l || l.source === "uncovered") return "no label";
  if (l.source === "manual") return "keyframe";
  const sure = l.confidence === null || l.confidence === undefined ? "" : `, confidence ${Math.round(l.confidence * 100)} %`;
  return `${l.state === "proposed" ? "pseudo-label to review" : l.state}${sure}`;
}
