/* Draws the editor's picture: the frame, where its label is doubtful, outlines of the neighbours' masks (onion skin), the mask, the tool's cursor. */

import { Viewport } from "./viewport.js";

const SMOOTH_BELOW = 3; /* above this zoom, pixels are shown as squares */
const ONION = { before: [80, 220, 255], after: [255, 120, 220] };

/* The outline of all objects of a mask, in one colour, two pixels wide. */
function outline(labels, width, height, [r, g, b]) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d"), image = context.createImageData(width, height), d = image.data;
  for (let y = 1, i = width; y < height; y++)
    for (let x = 0; x < width; x++, i++)
      if (labels[i] !== labels[i - width] || (x && labels[i] !== labels[i - 1]))
        for (const at of [i, i - width]) d.set([r, g, b, 255], at * 4);
  context.putImageData(image, 0, 0);
  return canvas;
}

/* Doubt as a violet veil: the map's brightness is its strength. */
function veil(map, width, height) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d");
  context.drawImage(map, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height), d = image.data;
  for (let i = 0; i < d.length; i += 4) {
    d[i + 3] = Math.min(230, d[i] * 2);
    d[i] = 200; d[i + 1] = 60; d[i + 2] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export class Stage {
  constructor(canvas, mask) {
    Object.assign(this, { canvas, mask, context: canvas.getContext("2d"), viewport: new Viewport(canvas, mask.width, mask.height) });
    this.frame = null;
    this.opacity = 0.6;
    this.showMask = true;
    this.onion = [];
    this.doubt = null;
    this.painter = null;
    this.observer = new ResizeObserver(() => { this.viewport.resize(); this.draw(); });
    this.observer.observe(canvas);
  }

  /* before, after: labels of the neighbours, or null */
  setOnion(before, after) {
    const { width, height } = this.mask;
    this.onion = [[before, ONION.before], [after, ONION.after]].filter(([labels]) => labels).map(([labels, colour]) => outline(labels, width, height, colour));
    this.draw();
  }

  /* map: an ImageBitmap, or null */
  setDoubt(map) {
    this.doubt = map && veil(map, this.mask.width, this.mask.height);
    map?.close();
    this.draw();
  }

  draw() {
    if (this.queued) return;
    this.queued = requestAnimationFrame(() => { this.queued = 0; this.paint(); });
  }

  paint() {
    const g = this.context, { width, height } = this.mask;
    g.setTransform(1, 0, 0, 1, 0, 0);
    g.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.viewport.apply(g);
    g.imageSmoothingEnabled = this.viewport.scale < SMOOTH_BELOW;
    if (this.frame?.width) g.drawImage(this.frame, 0, 0, width, height); /* 0: it left the cache while another one loads */
    g.globalAlpha = 0.9;
    for (const layer of this.onion) g.drawImage(layer, 0, 0);
    g.globalAlpha = this.opacity;
    if (this.showMask) g.drawImage(this.mask.canvas, 0, 0);
    g.globalAlpha = 1;
    if (this.doubt) g.drawImage(this.doubt, 0, 0);
    this.painter?.drawCursor(g);
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.queued);
  }
}
