/*
 * A label mask that can be painted: brush strokes, polygons, flood fill, with undo and redo. An undo step keeps only the
 * rectangle it changed. Coordinates are pixels of the frame; painting outside is cut off. The canvas shows every object in its
 * colour, its outline stronger than its inside.
 */

const UNDO_STEPS = 100;
const INSIDE = 185, OUTLINE = 255;

/* On the screen: bright, far apart, told apart with any colour vision (Okabe and Ito first); what is saved is the number. */
const COLOURS = [[0, 0, 0], [255, 96, 32], [86, 180, 255], [0, 200, 140], [240, 228, 66], [226, 121, 199], [64, 110, 255], [255, 176, 0], [255, 255, 255]];

export function objectColour(label) {
  if (label < COLOURS.length) return COLOURS[label];
  const hue = (label * 137.508) % 360, channel = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.6 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [channel(0), channel(8), channel(4)];
}

const TABLE = Uint8Array.from(Array.from({ length: 256 }, (_, i) => objectColour(i)).flat());

/* Colours the labels of a rectangle into an ImageData of its size. */
export function colourLabels(labels, width, height, x, y, image) {
  const { data: d, width: w, height: h } = image;
  for (let r = 0, i = 0; r < h; r++)
    for (let c = 0, at = (y + r) * width + x; c < w; c++, at++, i += 4) {
      const label = labels[at], px = x + c, py = y + r;
      if (!label) continue;
      const edge = (px > 0 && labels[at - 1] !== label) || (px < width - 1 && labels[at + 1] !== label) ||
        (py > 0 && labels[at - width] !== label) || (py < height - 1 && labels[at + width] !== label);
      d[i] = TABLE[label * 3]; d[i + 1] = TABLE[label * 3 + 1]; d[i + 2] = TABLE[label * 3 + 2];
      d[i + 3] = edge ? OUTLINE : INSIDE;
    }
}

export function sameLabels(a, b) {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.canvas = new OffscreenCanvas(width, height);
    this.context = this.canvas.getContext("2d");
    this.show(new Uint8Array(width * height));
  }

  /* Shows other labels (a copy of them) with their own undo steps. */
  show(labels, history = null) {
    this.labels = labels.slice();
    this.undos = history?.undos || [];
    this.redos = history?.redos || [];
    this.stroke = null;
    this.context.clearRect(0, 0, this.width, this.height);
    this.repaint(0, 0, this.width, this.height);
  }

  get history() { return { undos: this.undos, redos: this.redos }; }
  get isEmpty() { return this.labels.every((v) => v === 0); }

  objects() {
    const seen = new Set(this.labels);
    seen.delete(0);
    return [...seen].sort((a, b) => a - b);
  }

  /* Between begin() and end() lies one undo step. */
  begin() { this.stroke = { before: this.labels.slice(), x0: this.width, y0: this.height, x1: 0, y1: 0 }; }

  end() {
    const s = this.stroke;
    this.stroke = null;
    if (!s || s.x0 >= s.x1) return false;
    const w = s.x1 - s.x0, h = s.y1 - s.y0, before = this.cut(s.before, s.x0, s.y0, w, h);
    if (sameLabels(before, this.cut(this.labels, s.x0, s.y0, w, h))) return false;
    this.undos.push({ x: s.x0, y: s.y0, w, h, data: before });
    if (this.undos.length > UNDO_STEPS) this.undos.shift();
    this.redos = [];
    return true;
  }

  /* Takes back what was painted since begin(); no step remains. */
  abandon() {
    if (!this.stroke) return;
    this.labels = this.stroke.before;
    this.stroke = null;
    this.repaint(0, 0, this.width, this.height);
  }

  /* All labels at once, as one undo step. */
  replace(labels) {
    this.begin();
    this.labels.set(labels);
    this.touched(0, 0, this.width, this.height);
    return this.end();
  }

  undo() { return this.swap(this.undos, this.redos); }
  redo() { return this.swap(this.redos, this.undos); }

  swap(from, to) {
    const step = from.pop();
    if (!step) return false;
    const { x, y, w, h } = step, now = this.cut(this.labels, x, y, w, h);
    for (let r = 0; r < h; r++) this.labels.set(step.data.subarray(r * w, (r + 1) * w), (y + r) * this.width + x);
    to.push({ x, y, w, h, data: now });
    this.repaint(x, y, w, h);
    return true;
  }

  cut(labels, x, y, w, h) {
    const out = new Uint8Array(w * h);
    for (let r = 0; r < h; r++) out.set(labels.subarray((y + r) * this.width + x, (y + r) * this.width + x + w), r * w);
    return out;
  }

  touched(x0, y0, x1, y1) {
    x0 = Math.max(0, x0); y0 = Math.max(0, y0); x1 = Math.min(this.width, x1); y1 = Math.min(this.height, y1);
    if (x0 >= x1 || y0 >= y1) return;
    const s = this.stroke;
    if (s) { s.x0 = Math.min(s.x0, x0); s.y0 = Math.min(s.y0, y0); s.x1 = Math.max(s.x1, x1); s.y1 = Math.max(s.y1, y1); }
    this.repaint(x0, y0, x1 - x0, y1 - y0);
  }

  /* One pixel more on each side: the neighbours' outlines change too. */
  repaint(x, y, w, h) {
    const x0 = Math.max(0, x - 1), y0 = Math.max(0, y - 1);
    const image = this.context.createImageData(Math.min(this.width, x + w + 1) - x0, Math.min(this.height, y + h + 1) - y0);
    colourLabels(this.labels, this.width, this.height, x0, y0, image);
    this.context.putImageData(image, x0, y0);
  }

  /* A round brush of `radius` from (xa, ya) to (xb, yb). */
  line(xa, ya, xb, yb, radius, label) {
    const x0 = Math.floor(Math.min(xa, xb) - radius), x1 = Math.ceil(Math.max(xa, xb) + radius) + 1;
    const y0 = Math.floor(Math.min(ya, yb) - radius), y1 = Math.ceil(Math.max(ya, yb) + radius) + 1;
    const dx = xb - xa, dy = yb - ya, length2 = dx * dx + dy * dy, r2 = radius * radius;
    for (let y = Math.max(0, y0); y < Math.min(this.height, y1); y++)
      for (let x = Math.max(0, x0); x < Math.min(this.width, x1); x++) {
        const px = x + 0.5 - xa, py = y + 0.5 - ya;
        const t = length2 ? Math.max(0, Math.min(1, (px * dx + py * dy) / length2)) : 0;
        const ex = px - t * dx, ey = py - t * dy;
        if (ex * ex + ey * ey <= r2) this.labels[y * this.width + x] = label;
      }
    this.touched(x0, y0, x1, y1);
  }

  /* Fills a closed polygon, even-odd rule, sampled at pixel centres. points: [[x, y], ...] */
  polygon(points, label) {
    if (points.length < 3) return;
    const ys = points.map((p) => p[1]), y0 = Math.max(0, Math.floor(Math.min(...ys))), y1 = Math.min(this.height, Math.ceil(Math.max(...ys)));
    for (let y = y0; y < y1; y++) {
      const cuts = [], c = y + 0.5;
      for (let i = 0; i < points.length; i++) {
        const [ax, ay] = points[i], [bx, by] = points[(i + 1) % points.length];
        if (ay <= c !== by <= c) cuts.push(ax + ((c - ay) / (by - ay)) * (bx - ax));
      }
      cuts.sort((a, b) => a - b);
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        const from = Math.max(0, Math.ceil(cuts[i] - 0.5)), to = Math.min(this.width, Math.ceil(cuts[i + 1] - 0.5));
        if (from < to) this.labels.fill(label, y * this.width + from, y * this.width + to);
      }
    }
    this.touched(0, y0, this.width, y1);
  }

  /* Gives the connected region of equal labels around (x, y) another label. */
  fill(x, y, label) {
    x = Math.floor(x); y = Math.floor(y);
    const { width: w, height: h, labels } = this;
    if (x < 0 || y < 0 || x >= w || y >= h) return;
    const old = labels[y * w + x];
    if (old === label) return;
    const todo = [y * w + x];
    while (todo.length) {
      const at = todo.pop();
      if (labels[at] !== old) continue;
      const row = at - (at % w);
      let left = at, right = at;
      while (left > row && labels[left - 1] === old) left--;
      while (right < row + w - 1 && labels[right + 1] === old) right++;
      labels.fill(label, left, right + 1);
      for (const next of [-w, w])
        for (let i = left + next, inside = false; i <= right + next; i++) {
          const same = i >= 0 && i < w * h && labels[i] === old;
          if (same && !inside) todo.push(i);
          inside = same;
        }
    }
    this.touched(0, 0, w, h);
  }
}
