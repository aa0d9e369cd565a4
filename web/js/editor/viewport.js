/* Zoom and pan of an image inside a canvas, in device pixels. `toImage` turns a pointer event into a pixel of the frame. */

export class Viewport {
  constructor(canvas, width, height) {
    Object.assign(this, { canvas, width, height, scale: 1, x: 0, y: 0, fitted: true });
  }

  /* Matches the canvas to its box; keeps the image in view. */
  resize() {
    const ratio = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    const w = Math.max(1, Math.round(box.width * ratio)), h = Math.max(1, Math.round(box.height * ratio));
    if (w !== this.canvas.width || h !== this.canvas.height) {
      this.canvas.width = w;
      this.canvas.height = h;
    }
    if (this.fitted) this.fit();
  }

  fit() {
    this.fitted = true;
    this.scale = Math.min(this.canvas.width / this.width, this.canvas.height / this.height);
    this.x = (this.canvas.width - this.width * this.scale) / 2;
    this.y = (this.canvas.height - this.height * this.scale) / 2;
  }

  zoom(factor, cx = this.canvas.width / 2, cy = this.canvas.height / 2) {
    const scale = Math.max(0.1, Math.min(40, this.scale * factor)), f = scale / this.scale;
    this.x = cx - (cx - this.x) * f;
    this.y = cy - (cy - this.y) * f;
    this.scale = scale;
    this.fitted = false;
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
  }

  canvasPoint(event) {
    const box = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  toImage(event) {
    const [x, y] = this.canvasPoint(event);
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  apply(context) { context.setTransform(this.scale, 0, 0, this.scale, this.x, this.y); }
}
