/*
 * Plays frames with their maps on a canvas. Frames and maps come one by one from the service, so what is shown is the decoded picture
 * number n and its map, never a browser's idea of a timestamp. A bounded cache holds bitmaps around the playhead.
 */

import { bitmap } from "./api.js";
import { Cache, prefetch } from "./cache.js";

export const MODES = ["overlay", "heat", "cut-out", "map", "frame"];
const CACHE = 90, AHEAD = 12;

/* Black, violet, red, orange, pale yellow: monotone in lightness, so it also reads in greyscale. */
const HEAT = ramp([[0, 0, 4], [66, 10, 104], [147, 38, 103], [221, 81, 58], [252, 165, 10], [252, 255, 164]]);

function ramp(stops) {
  const out = new Uint8ClampedArray(256 * 3);
  for (let i = 0; i < 256; i++) {
    const x = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(x), stops.length - 2), f = x - k;
    for (let c = 0; c < 3; c++) out[i * 3 + c] = stops[k][c] * (1 - f) + stops[k + 1][c] * f;
  }
  return out;
}

export class Player {
  constructor(canvas, { frameUrl, mapUrl, width, height, fps, onFrame, onWait }) {
    Object.assign(this, { canvas, frameUrl, mapUrl, fps: fps > 0 ? fps : 25, onFrame, onWait });
    canvas.width = width;
    canvas.height = height;
    this.context = canvas.getContext("2d");
    this.layer = new OffscreenCanvas(width, height);
    this.layerContext = this.layer.getContext("2d", { willReadFrequently: true });
    this.cache = new Cache(CACHE, (n) => this.load(n), ({ frame, map }) => { frame.close(); map.close(); });
    this.available = 0;     /* maps written so far */
    this.current = 0;
    this.mode = "overlay";
    this.opacity = 0.7;
    this.playing = false;
    this.abort = new AbortController();
  }

  setAvailable(n) {
    const first = this.available === 0 && n > 0;
    this.available = n;
    if (first) this.seek(this.current);
  }

  async load(n) {
    const { signal } = this.abort;
    const [frame, map] = await Promise.all([bitmap(this.frameUrl(n), signal), bitmap(this.mapUrl(n), signal)]);
    return { frame, map };
  }

  prefetch() {
    const next = Array.from({ length: Math.max(0, Math.min(AHEAD, this.available - 1 - this.current)) }, (_, i) => this.current + 1 + i);
    prefetch(this.cache, next);
  }

  async seek(n) {
    if (this.available === 0) return;
    this.current = Math.max(0, Math.min(n, this.available - 1));
    const wanted = this.current;
    const slow = setTimeout(() => this.onWait(true), 150);
    try {
      const pair = await this.cache.get(wanted);
      if (wanted === this.current) { this.shown = pair; this.draw(); this.onFrame(wanted); }
    } finally {
      clearTimeout(slow);
      this.onWait(false);
    }
    this.prefetch();
  }

  async play() {
    if (this.playing) return;
    this.playing = true;
    if (this.current >= this.available - 1) this.current = -1;
    let due = performance.now();
    while (this.playing && this.current < this.available - 1) {
      try { await this.seek(this.current + 1); } catch { break; }
      due = Math.max(due + 1000 / this.fps, performance.now() - 200);
      await new Promise((r) => setTimeout(r, Math.max(0, due - performance.now())));
    }
    this.playing = false;
    this.onFrame(this.current);
  }

  pause() { this.playing = false; }

  setMode(mode) { this.mode = mode; this.draw(); }
  setOpacity(value) { this.opacity = value; this.draw(); }

  draw() {
    if (!this.shown) return;
    const { context: g, canvas: { width: w, height: h } } = this, { frame, map } = this.shown;
    g.globalAlpha = 1;
    g.globalCompositeOperation = "source-over";
    g.clearRect(0, 0, w, h);
    if (this.mode === "map") { g.drawImage(map, 0, 0, w, h); return; }
    if (this.mode === "cut-out") {
      this.paintLayer(map, w, h, (v, d, i) => { d[i] = d[i + 1] = d[i + 2] = 0; d[i + 3] = v; });
      g.drawImage(this.layer, 0, 0);
      g.globalCompositeOperation = "source-in";
      g.drawImage(frame, 0, 0, w, h);
      g.globalCompositeOperation = "destination-over";
      g.globalAlpha = 1 - this.opacity;
      g.drawImage(frame, 0, 0, w, h);
      return;
    }
    g.drawImage(frame, 0, 0, w, h);
    if (this.mode === "frame") return;
    const heat = this.mode === "heat";
    this.paintLayer(map, w, h, heat
      ? (v, d, i) => { d[i] = HEAT[v * 3]; d[i + 1] = HEAT[v * 3 + 1]; d[i + 2] = HEAT[v * 3 + 2]; d[i + 3] = 255; }
      : (v, d, i) => { d[i] = 255; d[i + 1] = 150; d[i + 2] = 0; d[i + 3] = v; });
    g.globalAlpha = this.opacity;
    g.drawImage(this.layer, 0, 0);
  }

  paintLayer(map, w, h, paint) {
    const g = this.layerContext;
    g.drawImage(map, 0, 0, w, h);
    const image = g.getImageData(0, 0, w, h), d = image.data;
    for (let i = 0; i < d.length; i += 4) paint(d[i], d, i);
    g.putImageData(image, 0, 0);
  }

  close() {
    this.playing = false;
    this.abort.abort();
    this.cache.clear();
  }
}
