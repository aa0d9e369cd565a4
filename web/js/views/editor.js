/* The editor of one clip: wires session, stage, tools, timeline and review together. One command, one method; see editor/commands.js. */

import { get, isFinal } from "../api.js";
import { h, toast } from "../dom.js";
import { commandOf, helpSheet } from "../editor/commands.js";
import { askConflict } from "../editor/conflict.js";
import { buildLayout } from "../editor/layout.js";
import { Mask, objectColour } from "../editor/mask.js";
import { isOpen, Session } from "../editor/session.js";
import { Stage } from "../editor/stage.js";
import { describe, percent, Timeline } from "../editor/timeline.js";
import { Painter, TOOLS } from "../editor/tools.js";
import { exportMenu } from "../exportmenu.js";
import { jobLine } from "../jobline.js";

const SLOW_MS = 150, HINT_MS = 5000, TAP_MS = 350, MAX_OBJECTS = 255;

/* Why a frame is suggested. */
const REASONS = {
  no_keyframes: "stands for most others, a good one to paint first", long_gap: "far from every keyframe", low_confidence: "its label is doubtful",
  stale: "its keyframes changed", rejected: "its label was rejected",
};

class Editor {
  static async open(root, projectId, clipId, wanted) {
    const self = new Editor(), early = [];
    /* What autosave finds on the disk may speak before the elements exist. */
    self.session = await Session.open(projectId, clipId, {
      save: (state, text) => (self.at ? self.showSave(state, text) : early.push([state, text])),
      conflict: (c) => (self.at ? self.conflict(c) : self.conflicts.push(c)),
      changed: () => self.at && self.showLabels(),
    });
    self.build(root);
    early.forEach((args) => self.showSave(...args));
    self.showLabels();
    await self.goTo(wanted);
    if (self.conflicts.length) self.nextConflict();
    return self;
  }

  constructor() {
    this.current = 0;
    this.generation = 0;
    this.objects = 1;
    this.conflicts = [];
    this.skipped = new Set();
    this.origins = new Map(); /* frame -> it had a mask before its first stroke */
    this.live = false;
    this.reviewing = false;
    this.playing = false;
    this.onion = this.doubt = false;
  }

  build(root) {
    const { session, session: { clip, project } } = this;
    this.mask = new Mask(clip.width, clip.height);
    this.timeline = new Timeline(clip.frames, (n) => { this.pause(); this.show(n); });
    this.exporter = exportMenu(project, () => this.settled());
    this.job = jobLine("Propagating", { onEnd: (job) => this.propagated(job) });
    const radius = Math.max(3, Math.round(clip.width / 50));
    this.at = buildLayout({
      project, clip, timeline: this.timeline.canvas, exporter: this.exporter, jobElement: this.job.element, radius, maxRadius: Math.round(clip.width / 6),
      run: (id) => this.run(id),
    });
    root.append(this.at.element, this.sheet = helpSheet());
    this.stage = new Stage(this.at.canvas, this.mask);
    this.painter = new Painter(this.at.canvas, this.stage.viewport, this.mask, { onStroke: () => this.painted(), onDraw: () => this.stage.draw() });
    this.painter.radius = radius;
    this.stage.painter = this.painter;
    this.at.size.input.addEventListener("input", () => { this.painter.radius = Number(this.at.size.input.value); });
    this.at.opacity.input.addEventListener("input", () => { this.stage.opacity = Number(this.at.opacity.input.value); this.stage.draw(); });
    this.at.above.addEventListener("input", () => this.showReview());
    this.at.acceptAll.addEventListener("click", () => this.acceptAll());
    this.at.resolve.addEventListener("click", () => this.nextConflict());
    this.onKey = (e) => this.keyDown(e);
    this.onKeyUp = (e) => this.keyUp(e);
    document.addEventListener("keydown", this.onKey);
    document.addEventListener("keyup", this.onKeyUp);
    this.onOnline = () => { if (this.missing) this.show(this.current); };
    window.addEventListener("online", this.onOnline);
    this.setTool("brush");
    this.adoptJob();
  }

  /* A propagation that is under way (started in another tab, before a reload) is shown as well. */
  async adoptJob() {
    try {
      const { items } = await get("/v1/jobs?limit=50"), { project, clip } = this.session;
      const job = items.find((j) => j.kind === "propagate" && !isFinal(j.state) && j.params?.project === project.id && j.params?.clip === clip.id);
      if (job) this.watch(job);
    } catch { /* only a convenience */ }
  }

  /* ---- commands ---- */

  run(id) {
    const tool = id.startsWith("tool-") && id.slice(5);
    if (tool) { this.setTool(tool); return; }
    const method = this[id.replace(/-(\w)/g, (_, c) => c.toUpperCase())];
    Promise.resolve(method.call(this)).catch((e) => toast(e.message));
  }

  keyDown(e) {
    if (e.key === " " && this.painter.spaceHeld) { e.preventDefault(); return; }
    const command = commandOf(e);
    if (!command) return;
    e.preventDefault();
    if (command.id === "play") this.spaceDown();
    else if (command.id === "object") this.setObject(Number(e.key));
    else this.run(command.id);
  }

  /* The space bar: tapped it plays, held it drags the picture. */
  spaceDown() {
    this.painter.spaceHeld = performance.now();
    this.painter.panned = false;
    this.at.canvas.classList.add("drags");
  }

  keyUp(e) {
    if (e.key !== " " || !this.painter.spaceHeld) return;
    const tapped = !this.painter.panned && performance.now() - this.painter.spaceHeld < TAP_MS;
    this.painter.spaceHeld = 0;
    this.at.canvas.classList.remove("drags");
    if (tapped) this.play();
  }

  setTool(id) {
    this.painter.setTool(id);
    for (const t of TOOLS) this.at[`tool-${t.id}`].setAttribute("aria-pressed", String(t.id === id));
    this.at.canvas.dataset.tool = id;
  }

  undo() {
    if (this.painter.points.length) this.painter.dropPoint();
    else if (this.mask.undo()) this.painted();
  }

  redo() { if (this.mask.redo()) this.painted(); }

  resize(by) {
    const input = this.at.size.input;
    input.value = Math.round(this.painter.radius * by + (by > 1 ? 0.6 : -0.6));
    this.painter.radius = Number(input.value);
    this.stage.draw();
  }

  smaller() { this.resize(0.85); }
  larger() { this.resize(1.15); }
  closePolygon() { this.painter.closePolygon(); }
  dropPoint() { this.painter.dropPoint(); }

  escape() {
    if (this.painter.points.length) this.painter.dropPolygon();
    else if (this.reviewing) this.review();
  }

  zoom(by) { this.stage.viewport.zoom(by); this.stage.draw(); }
  zoomIn() { this.zoom(1.25); }
  zoomOut() { this.zoom(0.8); }
  fit() { this.stage.viewport.fit(); this.stage.draw(); }

  setOpacity(v) {
    this.stage.opacity = Math.max(0, Math.min(1, v));
    this.at.opacity.input.value = this.stage.opacity;
    this.stage.draw();
  }

  fainter() { this.setOpacity(this.stage.opacity - 0.1); }
  stronger() { this.setOpacity(this.stage.opacity + 0.1); }
  help() { this.sheet.showModal(); }

  toggleOnion() {
    this.onion = !this.onion;
    this.at["toggle-onion"].setAttribute("aria-pressed", String(this.onion));
    return this.showOnion();
  }

  toggleDoubt() {
    this.doubt = !this.doubt;
    this.at["toggle-doubt"].setAttribute("aria-pressed", String(this.doubt));
    return this.showDoubt();
  }

  toggleMask() {
    this.stage.showMask = !this.stage.showMask;
    this.at["toggle-mask"].setAttribute("aria-pressed", String(this.stage.showMask));
    this.stage.draw();
  }

  /* ---- frames ---- */

  show(n) { return this.goTo(n).catch((e) => toast(e.message)); }
  step(by) { this.pause(); return this.show(this.current + by); }
  previous() { return this.step(-1); }
  next() { return this.step(1); }
  back10() { return this.step(-10); }
  forward10() { return this.step(10); }
  first() { return this.step(-Infinity); }
  last() { return this.step(Infinity); }

  keyframe(direction) {
    const n = this.session.keyframeBeside(this.current, direction);
    if (n >= 0) { this.pause(); this.show(n); }
  }

  previousKey() { this.keyframe(-1); }
  nextKey() { this.keyframe(1); }

  /* Shows frame n with its mask. Painting waits until both are there. */
  async goTo(n) {
    const mine = ++this.generation;
    this.leave();
    this.current = Math.max(0, Math.min(this.session.clip.frames - 1, n));
    this.at.canvas.setAttribute("aria-busy", "true");
    this.showFrame();
    const slow = setTimeout(() => this.say("Loading"), SLOW_MS);
    try {
      const [frame, labels] = await this.session.load(this.current);
      if (mine !== this.generation) return;
      this.missing = false;
      this.stage.frame = frame;
      this.mask.show(labels, this.playing ? null : this.session.historyOf(this.current, labels));
      this.live = this.painter.enabled = !this.playing;
      this.at.canvas.setAttribute("aria-busy", "false");
      this.say("");
      this.shown();
    } catch (e) {
      if (mine !== this.generation) return;
      this.missing = true;
      this.say(`Frame ${this.current} could not be loaded: ${e.message}`);
      throw e;
    } finally {
      clearTimeout(slow);
    }
  }

  /* What stands on the stage is no longer to be painted on. */
  leave() {
    if (this.live) this.session.leave(this.current, this.mask);
    this.live = this.painter.enabled = false;
    this.painter.dropPolygon();
  }

  shown() {
    this.showUndo();
    this.objects = Math.max(this.objects, ...this.mask.objects(), 1);
    this.showObjects();
    this.stage.draw();
    this.showOnion();
    this.showDoubt();
  }

  say(text) {
    this.at.note.hidden = !text;
    this.at.note.textContent = text;
  }

  /* A word on the picture that goes by itself. */
  hint(text) {
    this.say(text);
    setTimeout(() => { if (this.at.note.textContent === text) this.say(""); }, HINT_MS);
  }

  async showOnion() {
    const n = this.current, wanted = this.onion && !this.playing, { session } = this;
    const [before, after] = await Promise.all([-1, 1].map(async (d) => {
      const beside = wanted ? session.neighbour(n, d) : -1;
      return beside < 0 ? null : session.masks.get(beside).catch(() => null);
    }));
    if (n === this.current) this.stage.setOnion(before, after);
  }

  async showDoubt() {
    const n = this.current, map = this.doubt && !this.playing ? await this.session.doubt(n).catch(() => null) : null;
    if (n === this.current) this.stage.setDoubt(map);
  }

  /* Playback by the clock: frames that are late are left out. */
  async play() {
    if (this.playing) { this.pause(); return; }
    const { frames, fps } = this.session.clip, rate = (fps || 25) / 1000;
    if (this.current === frames - 1) await this.goTo(0);
    this.leave();
    this.playing = true;
    this.at.play.textContent = "Pause";
    let from = this.current, start = performance.now();
    while (this.playing && this.current < frames - 1) {
      const speed = Number(this.at.speed.value), next = Math.max(this.current + 1, from + Math.floor((performance.now() - start) * rate * speed));
      const due = start + (next - from) / (rate * speed), before = performance.now();
      try { await this.goTo(next); } catch { break; }
      if (performance.now() - before > 250) { from = this.current; start = performance.now(); } /* it waited for the service: go on from here */
      else await new Promise((r) => setTimeout(r, Math.max(0, due - performance.now())));
    }
    this.pause();
  }

  pause() {
    if (!this.playing) return;
    this.at.play.textContent = "Play";
    this.playing = false;
    this.show(this.current);
  }

  /* ---- painting ---- */

  /* After a stroke, an undo or a redo. The undo of all that made a frame a keyframe takes the keyframe away. */
  painted() {
    const { session, current, origins } = this;
    if (!origins.has(current)) origins.set(current, session.hasMask(current));
    const undone = !origins.get(current) && this.mask.undos.length === 0 && this.mask.isEmpty;
    session.edited(current, undone ? null : this.mask.labels).catch((e) => toast(e.message));
    this.objects = Math.max(this.objects, ...this.mask.objects(), 1);
    this.showUndo();
    this.stage.draw();
  }

  setObject(n) {
    if (n > MAX_OBJECTS) return;
    this.objects = Math.max(this.objects, n);
    this.painter.label = n;
    if (this.painter.tool === "eraser" || this.painter.tool === "hand") this.setTool("brush");
    this.showObjects();
  }

  replace(labels) { if (this.live && this.mask.replace(labels)) this.painted(); }

  async copy() {
    const { session, current } = this, beside = [-1, 1].map((d) => session.neighbour(current, d)).filter((n) => n >= 0);
    if (!beside.length) { toast("There is no mask to copy yet"); return; }
    beside.sort((a, b) => Math.abs(a - current) - Math.abs(b - current));
    const labels = await session.masks.get(beside[0]);
    if (current === this.current) this.replace(labels);
  }

  /* An empty mask is a statement too: no object in this frame. */
  nothing() {
    if (!this.live) return;
    if (!this.mask.replace(this.session.empty)) this.session.edited(this.current, this.mask.labels);
    else this.painted();
    this.origins.set(this.current, true);
  }

  remove() {
    if (!this.live || !this.session.keyframes.has(this.current)) return;
    this.mask.replace(this.session.empty);
    this.session.edited(this.current, null);
    this.showUndo();
    this.stage.draw();
  }

  /* ---- labels ---- */

  /* Everything painted is with the service. */
  async settled() {
    for (let i = 0; i < 100 && !this.session.settled; i++) await new Promise((r) => setTimeout(r, 100));
    if (!this.session.settled) throw new Error("Your last changes are not saved yet");
  }

  async propagate() {
    if (this.job.busy) return;
    if (this.session.keyframes.size === 0) { toast("Paint the object on at least one frame first"); return; }
    this.at.propagate.disabled = true;
    try {
      await this.settled();
      this.watch(await this.session.propagate());
    } catch (e) {
      this.at.propagate.disabled = false;
      if (e.code === "already_running") await this.adoptJob();
      else toast(e.message);
    }
  }

  watch(job) {
    this.at.propagate.disabled = true;
    this.job.watch(job);
    this.showGuide();
  }

  async propagated(job) {
    this.at.propagate.disabled = false;
    await this.session.refresh().catch((e) => toast(e.message));
    if (job.state === "succeeded") { this.skipped.clear(); this.job.element.hidden = true; }
    if (!this.painter.busy && !this.playing) await this.show(this.current);
  }

  async suggest() {
    const list = await this.session.suggest();
    const best = list.find((s) => !this.session.keyframes.has(s.frame));
    if (!best) { toast("No frame stands out: the labels agree with each other", "good"); return; }
    await this.step(best.frame - this.current);
    this.hint(`Frame ${best.frame}: ${REASONS[best.reason] || "its mask would help most"}`);
  }

  /* ---- review ---- */

  review() {
    this.reviewing = !this.reviewing;
    this.skipped.clear();
    this.showReview();
    this.showGuide();
    if (!this.reviewing) return null;
    const [worst] = this.session.worstFirst();
    return worst === undefined ? null : this.step(worst - this.current);
  }

  nextWorst() {
    this.skipped.add(this.current);
    const left = this.session.worstFirst();
    const next = left.find((n) => !this.skipped.has(n)) ?? left.find((n) => n !== this.current);
    if (next === undefined) { this.showGuide(); return null; }
    if (this.skipped.has(next)) this.skipped.clear();
    return this.step(next - this.current);
  }

  async decide(state) {
    const n = this.current, label = this.session.labels.get(n);
    if (label?.source === "pseudo") await this.session.setState(n, state);
    else if (!this.reviewing) { toast(`Frame ${n} has no pseudo-label to decide about`); return; }
    if (this.reviewing && n === this.current) await this.nextWorst();
  }

  accept() { return this.decide("accepted"); }
  reject() { return this.decide("rejected"); }

  correct() {
    this.pause();
    this.setTool("brush");
    this.hint("Paint or erase: the frame becomes a keyframe. Next worst goes on.");
  }

  async acceptAll() {
    this.at.acceptAll.disabled = true;
    try {
      await this.session.acceptAbove(this.threshold);
      if (this.reviewing && !isOpen(this.session.labels.get(this.current))) await this.nextWorst();
    } catch (e) {
      toast(e.message);
    }
    this.showReview();
  }

  get threshold() { return Math.max(0, Math.min(100, Number(this.at.above.value) || 0)) / 100; }

  /* ---- conflicts ---- */

  conflict(c) {
    this.conflicts.push(c);
    if (this.conflicts.length === 1) this.nextConflict();
  }

  async nextConflict() {
    const [c] = this.conflicts;
    if (!c || document.querySelector("dialog.conflict")) return;
    this.at.resolve.hidden = false;
    c.mine = await this.session.mine(c.frame); /* painted on since */
    const keepMine = await askConflict(this.session, c);
    if (keepMine === null) return;
    this.conflicts.shift();
    this.at.resolve.hidden = this.conflicts.length === 0;
    if (c.frame === this.current) this.live = false; /* the answer brings its own undo steps */
    this.session.resolve(c, keepMine);
    if (c.frame === this.current) await this.show(this.current);
    this.nextConflict();
  }

  /* ---- what is shown ---- */

  showSave(state, text) {
    this.at.save.dataset.state = state;
    this.at.save.textContent = text;
  }

  showFrame() {
    const { frames } = this.session.clip, label = this.session.labels.get(this.current);
    this.at.where.textContent = `frame ${this.current} of ${frames}`;
    this.at.canvas.setAttribute("aria-label", `Frame ${this.current}: paint here`);
    this.at.label.textContent = describe(label).replace(/^./, (c) => c.toUpperCase());
    this.at.remove.disabled = !this.session.keyframes.has(this.current);
    this.timeline.setCurrent(this.current);
  }

  showLabels() {
    this.timeline.setLabels(this.session.labels);
    this.showFrame();
    this.showReview();
    this.showGuide();
  }

  showReview() {
    const open = this.session.worstFirst(), { threshold } = this;
    const pseudo = [...this.session.labels.values()].filter((l) => l.source === "pseudo");
    const above = open.filter((n) => (this.session.labels.get(n).confidence ?? 0) >= threshold && !this.session.labels.get(n).stale).length;
    const here = this.session.labels.get(this.current);
    this.at.review.setAttribute("aria-pressed", String(this.reviewing));
    this.at.element.classList.toggle("reviewing", this.reviewing);
    this.at.left.textContent = pseudo.length ? `${open.length} of ${pseudo.length} labels to review` : "No labels yet: paint, then propagate.";
    this.at.acceptAll.disabled = above === 0;
    this.at.acceptCount.textContent = `${above} ${above === 1 ? "label" : "labels"} at ${percent(threshold)} or more`;
    for (const [id, state] of [["accept", "accepted"], ["reject", "rejected"]]) {
      this.at[id].disabled = here?.source !== "pseudo" && !this.reviewing;
      this.at[id].setAttribute("aria-pressed", String(here?.source === "pseudo" && here.state === state));
    }
    this.at["next-worst"].disabled = open.length === 0;
  }

  showGuide() {
    const labels = [...this.session.labels.values()], open = labels.filter(isOpen).length;
    const pseudo = labels.filter((l) => l.source === "pseudo"), keys = this.session.keyframes.size;
    let text = "";
    if (this.job.busy) text = "";
    else if (keys === 0) text = "Paint over the object on this frame. Every stroke is saved by itself.";
    else if (!pseudo.length) text = "Press Propagate to label every other frame. More painted frames make better labels: try the last one.";
    else if (pseudo.some((l) => l.stale && l.state !== "accepted")) text = "Keyframes changed: press Propagate again. Only the frames they touch are computed.";
    else if (open && this.reviewing) text = `Accept, Reject or Correct: least certain first, ${open} left.`;
    else if (open) text = `${open} labels to review. Press Review: the least certain come first.`;
    else text = "Every label is reviewed. Export them, or retrain the model on the project's page.";
    this.at.guide.textContent = text;
    this.at.propagate.classList.toggle("calls", keys > 0 && !pseudo.length && !this.job.busy);
  }

  showUndo() {
    this.at.undo.disabled = this.mask.undos.length === 0;
    this.at.redo.disabled = this.mask.redos.length === 0;
  }

  showObjects() {
    const buttons = Array.from({ length: this.objects }, (_, i) => i + 1).map((n) => {
      const swatch = h("span", { class: "swatch" });
      swatch.style.backgroundColor = `rgb(${objectColour(n).join(" ")})`;
      return h("button", { type: "button", id: `object-${n}`, "aria-label": `Object ${n}`, "aria-pressed": String(n === this.painter.label), onclick: () => this.setObject(n) }, swatch, String(n));
    });
    const more = h("button", { type: "button", id: "do-new-object", "aria-label": "New object", disabled: this.objects >= MAX_OBJECTS, onclick: () => this.setObject(this.objects + 1) }, "+");
    const key = `${this.objects}/${this.painter.label}`;
    if (this.objectsShown === key) return;
    this.objectsShown = key;
    this.at.objects.replaceChildren(...buttons, more);
  }

  close() {
    this.playing = false;
    this.generation++;
    document.removeEventListener("keydown", this.onKey);
    document.removeEventListener("keyup", this.onKeyUp);
    window.removeEventListener("online", this.onOnline);
    document.querySelector("dialog.conflict")?.remove();
    this.job.stop();
    this.exporter.close();
    this.timeline.close();
    this.stage.close();
    this.session.close();
  }
}

export async function editor(root, [projectId, clipId, frame]) {
  const made = await Editor.open(root, projectId, clipId, Number(frame) || 0);
  return () => made.close();
}
