/*
 * Painting with mouse, pen and touch. One finger, the pen or the left button uses the tool, the right button erases; two fingers, the
 * middle button, the space bar or the hand tool pan, two fingers and the wheel zoom. Once a pen was seen, a single finger pans
 * (the palm does not paint). A stroke becomes one undo step; onStroke tells when it is done.
 */

export const TOOLS = [
  { id: "brush", name: "Brush", key: "b", help: "paint the object" },
  { id: "eraser", name: "Eraser", key: "e", help: "remove paint" },
  { id: "polygon", name: "Polygon", key: "p", help: "click around the object; Enter closes" },
  { id: "fill", name: "Fill", key: "f", help: "fill a closed outline" },
  { id: "hand", name: "Hand", key: "h", help: "move the picture" },
];

export class Painter {
  constructor(canvas, viewport, mask, { onStroke, onDraw }) {
    Object.assign(this, { canvas, viewport, mask, onStroke, onDraw });
    this.enabled = true;
    this.tool = "brush";
    this.label = 1;
    this.radius = 12;
    this.points = []; /* of the open polygon */
    this.pointers = new Map();
    this.cursor = null;
    this.last = null; /* where the last stroke ended: Shift continues from there */
    canvas.addEventListener("pointerdown", (e) => this.down(e));
    canvas.addEventListener("pointermove", (e) => this.move(e));
    canvas.addEventListener("pointerup", (e) => this.up(e));
    canvas.addEventListener("pointercancel", (e) => this.up(e));
    canvas.addEventListener("pointerleave", () => { this.cursor = null; this.onDraw(); });
    canvas.addEventListener("dblclick", () => this.closePolygon());
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      viewport.zoom(Math.exp(-e.deltaY * 0.0015), ...viewport.canvasPoint(e));
      this.onDraw();
    }, { passive: false });
  }

  get busy() { return this.painting || this.points.length > 0; }

  pans(e) {
    if (e.pointerType === "pen") this.penSeen = true;
    return this.tool === "hand" || this.spaceHeld || e.button === 1 || (this.penSeen && e.pointerType === "touch");
  }

  down(e) {
    try { this.canvas.setPointerCapture(e.pointerId); } catch { /* a pointer that is already gone */ }
    this.pointers.set(e.pointerId, this.viewport.canvasPoint(e));
    if (this.pointers.size === 2) { this.cancelStroke(); this.gesture = this.pinch(); return; }
    if (this.pointers.size > 2 || this.gesture) return;
    this.panning = this.pans(e);
    if (this.panning || !this.enabled || (e.button !== 0 && e.button !== 2)) return;
    const [x, y] = this.viewport.toImage(e);
    if (this.tool === "polygon" && e.button === 0) { this.addPoint(x, y); return; }
    this.mask.begin();
    this.painting = true;
    this.paint = e.button === 2 || this.tool === "eraser" ? 0 : this.label;
    if (this.tool === "fill") this.mask.fill(x, y, this.paint);
    else this.mask.line(...(e.shiftKey && this.last ? this.last : [x, y]), x, y, this.radiusOf(e), this.paint);
    this.last = [x, y];
    this.onDraw();
  }

  move(e) {
    this.cursor = this.viewport.toImage(e);
    const before = this.pointers.get(e.pointerId);
    if (before) {
      const now = this.viewport.canvasPoint(e);
      this.pointers.set(e.pointerId, now);
      if (this.gesture) this.pinchMove();
      else if (this.panning) { this.viewport.pan(now[0] - before[0], now[1] - before[1]); this.panned = true; }
      else if (this.painting && this.tool !== "fill") this.strokeTo(e);
    }
    this.onDraw();
  }

  strokeTo(e) {
    const steps = e.getCoalescedEvents?.() || [];
    for (const step of steps.length ? steps : [e]) {
      const [x, y] = this.viewport.toImage(step);
      this.mask.line(...this.last, x, y, this.radiusOf(step), this.paint);
      this.last = [x, y];
    }
  }

  up(e) {
    this.pointers.delete(e.pointerId);
    if (this.gesture && this.pointers.size === 0) this.gesture = null;
    this.panning = false;
    if (!this.painting) return;
    this.painting = false;
    if (this.mask.end()) this.onStroke();
  }

  /* A pen that reports pressure paints thinner when pressed lightly. */
  radiusOf(e) { return e.pointerType === "pen" && e.pressure > 0 ? this.radius * (0.4 + 0.6 * e.pressure) : this.radius; }

  cancelStroke() {
    if (!this.painting) return;
    this.painting = false;
    this.mask.abandon();
  }

  pinch() {
    const [a, b] = [...this.pointers.values()];
    return { cx: (a[0] + b[0]) / 2, cy: (a[1] + b[1]) / 2, distance: Math.hypot(a[0] - b[0], a[1] - b[1]) };
  }

  pinchMove() {
    if (this.pointers.size !== 2) return;
    const now = this.pinch(), old = this.gesture;
    this.viewport.pan(now.cx - old.cx, now.cy - old.cy);
    if (old.distance > 0) this.viewport.zoom(now.distance / old.distance, now.cx, now.cy);
    this.gesture = now;
  }

  addPoint(x, y) {
    const [first] = this.points;
    const near = (8 * (window.devicePixelRatio || 1)) / this.viewport.scale;
    if (this.points.length > 2 && Math.hypot(x - first[0], y - first[1]) < near) this.closePolygon();
    else this.points.push([x, y]);
    this.onDraw();
  }

  closePolygon() {
    if (this.points.length > 2) {
      this.mask.begin();
      this.mask.polygon(this.points, this.label);
      if (this.mask.end()) this.onStroke();
    }
    this.dropPolygon();
  }

  dropPoint() { this.points.pop(); this.onDraw(); }
  dropPolygon() { this.points = []; this.onDraw(); }

  setTool(tool) {
    this.tool = tool;
    this.dropPolygon();
  }

  /* What is drawn over the picture: the brush's outline, the open polygon. In image coordinates. */
  drawCursor(context) {
    const line = (1.5 * (window.devicePixelRatio || 1)) / this.viewport.scale;
    context.lineWidth = line;
    if (this.points.length) this.drawPolygon(context, line);
    if (this.cursor && (this.tool === "brush" || this.tool === "eraser") && !this.spaceHeld)
      for (const [colour, r] of [["#000", this.radius + line], ["#fff", this.radius]]) {
        context.strokeStyle = colour;
        context.beginPath();
        context.arc(...this.cursor, Math.max(0.5, r), 0, 7);
        context.stroke();
      }
  }

  drawPolygon(context, line) {
    for (const [colour, width] of [["#000", 3 * line], ["#fff", line]]) {
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      this.points.forEach(([x, y]) => context.lineTo(x, y));
      if (this.cursor) context.lineTo(...this.cursor);
      context.stroke();
      for (const [x, y] of this.points) context.fillRect(x - 2 * line - width / 2, y - 2 * line - width / 2, 4 * line + width, 4 * line + width);
    }
  }
}
