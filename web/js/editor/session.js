/*
 * What the editor works on, without any picture: the keyframes and labels of one clip in a project, their masks, and the way edits
 * take to the service. A frame's mask is, in this order: an edit that is not acknowledged, its keyframe, its pseudo-label, nothing.
 */

import { bitmap, get, getAll, post, request } from "../api.js";
import { Cache, prefetch } from "../cache.js";
import { decodeMask, encodeMask } from "../png.js";
import { Autosave } from "./autosave.js";
import { sameLabels } from "./mask.js";

const MEMORY_PX = 48e6; /* of frames, and of masks, that are kept at hand */
const AHEAD = 16;

export const clipPath = (project, clip) => `/v1/projects/${project}/clips/${clip}`;

/* What a label row says that a reviewer has to decide. */
export const isOpen = (label) => label?.source === "pseudo" && label.state === "proposed";

export class Session {
  /* on: {save(state, text), conflict(c), changed()} */
  static async open(projectId, clipId, on) {
    const self = new Session();
    self.base = clipPath(projectId, clipId);
    self.on = on;
    self.keyframes = new Map(); /* frame -> row */
    self.labels = new Map();    /* frame -> row, keyframes too */
    self.histories = new Map(); /* frame -> {labels, history}: undo steps of frames that were left */
    self.edits = new Map();     /* frame -> number of its newest edit */
    self.encoding = 0;
    self.abort = new AbortController();
    [self.project, self.clip] = await Promise.all([get(`/v1/projects/${projectId}`), get(`/v1/clips/${clipId}`)]);
    const { width, height } = self.clip, limit = Math.round(Math.max(8, Math.min(160, MEMORY_PX / (width * height))));
    self.ahead = Math.min(AHEAD, limit >> 1);
    self.frames = new Cache(limit, (n) => bitmap(`/v1/clips/${clipId}/frames/${n}`, self.abort.signal), (b) => b.close());
    self.masks = new Cache(limit, (n) => self.loadMask(n));
    self.autosave = await Autosave.open(self.base, (n) => `${self.base}/keyframes/${n}`, {
      onState: on.save,
      onSaved: (n, removed) => self.saved(n, removed),
      onConflict: on.conflict,
    });
    await self.refresh();
    return self;
  }

  /* Reads keyframes and labels again; forgets the masks that changed. */
  async refresh() {
    clearTimeout(this.refreshTimer);
    const [keyframes, labels] = await Promise.all([getAll(`${this.base}/keyframes`), getAll(`${this.base}/labels`)]);
    const tag = (k, l) => (k ? k.etag : `${l?.source}-${l?.version}-${l?.job_id}`);
    const before = new Map([...this.keyframes.keys(), ...this.labels.keys()].map((n) => [n, tag(this.keyframes.get(n), this.labels.get(n))]));
    this.keyframes = new Map(keyframes.map((k) => [k.frame, k]));
    this.labels = new Map(labels.map((l) => [l.frame, l]));
    for (const n of [...this.masks.entries.keys()])
      if (before.get(n) !== (this.keyframes.has(n) || this.labels.has(n) ? tag(this.keyframes.get(n), this.labels.get(n)) : undefined)) this.masks.delete(n);
    this.on.changed();
  }

  get empty() { return new Uint8Array(this.clip.width * this.clip.height); }

  async loadMask(n) {
    const edit = this.autosave.pending(n);
    if (edit) return (await decodeMask(edit)).labels;
    if (this.keyframes.has(n) && edit !== null) return this.fetchMask(n, `${this.base}/keyframes/${n}`, true);
    this.autosave.seen(n, null);
    if (!this.labels.get(n)?.mask) return this.empty;
    return this.fetchMask(n, `${this.base}/labels/${n}.png`, false);
  }

  async fetchMask(n, path, isKeyframe) {
    let response;
    try {
      response = await request("GET", path, { headers: { Accept: "image/png" }, cache: "no-cache", raw: true, signal: this.abort.signal });
    } catch (e) {
      if (e.status !== 404) throw e;
      return this.empty; /* a label without a mask; a keyframe removed since */
    }
    const { width, height, labels } = await decodeMask(await response.arrayBuffer());
    if (width !== this.clip.width || height !== this.clip.height) throw new Error(`The mask of frame ${n} is not of the frame's size`);
    if (isKeyframe) this.autosave.seen(n, response.headers.get("ETag"));
    return labels;
  }

  /* Frame n and its mask; what comes after is loaded behind it. */
  async load(n, ahead = 1) {
    const both = await Promise.all([this.frames.get(n), this.masks.get(n)]);
    const next = Array.from({ length: this.ahead }, (_, i) => n + ahead * (i + 1)).filter((i) => i >= 0 && i < this.clip.frames);
    prefetch(this.frames, next, 3);
    prefetch(this.masks, next, 2);
    return both;
  }

  hasMask(n) { return this.keyframes.has(n) || Boolean(this.labels.get(n)?.mask); }

  /* The nearest frame with a mask before (-1) or after (1) n, at most `reach` away unless it is a keyframe; -1: none. */
  neighbour(n, direction) {
    for (let i = n + direction; i >= 0 && i < this.clip.frames; i += direction)
      if (this.keyframes.has(i) || (Math.abs(i - n) === 1 && this.hasMask(i))) return i;
    return -1;
  }

  keyframeBeside(n, direction) {
    const all = [...this.keyframes.keys()].filter((k) => (k - n) * direction > 0);
    return all.length ? (direction < 0 ? Math.max(...all) : Math.min(...all)) : -1;
  }

  /* ---- edits ---- */

  leave(n, mask) { if (mask.undos.length || mask.redos.length) this.histories.set(n, { labels: mask.labels, history: mask.history }); }

  historyOf(n, labels) {
    const left = this.histories.get(n);
    return left && sameLabels(left.labels, labels) ? left.history : null;
  }

  /* The mask of frame n was painted: it is a keyframe from now on. labels null: it is none any more. */
  async edited(n, labels) {
    const number = (this.edits.get(n) || 0) + 1;
    this.edits.set(n, number);
    this.on.save("saving", "Saving…");
    this.masks.put(n, labels ? labels.slice() : this.empty);
    if (labels) {
      this.keyframes.set(n, this.keyframes.get(n) || { frame: n });
      this.labels.set(n, { frame: n, source: "manual", state: "accepted", mask: true });
    } else {
      this.keyframes.delete(n);
      this.labels.delete(n);
    }
    this.on.changed();
    this.encoding++;
    const png = labels && (await (await encodeMask(labels, this.clip.width, this.clip.height)).arrayBuffer());
    this.encoding--;
    if (this.edits.get(n) === number) this.autosave.save(n, png);
  }

  /* Everything painted is with the service. */
  get settled() { return this.encoding === 0 && this.autosave.clean; }

  saved(n, removed) {
    if (!removed && this.keyframes.has(n)) this.keyframes.get(n).etag = this.autosave.etags.get(n);
    if (removed || [...this.labels.values()].some((l) => l.source === "pseudo")) { /* labels that came from it are stale now */
      clearTimeout(this.refreshTimer);
      this.refreshTimer = setTimeout(() => { if (this.autosave.clean) this.refresh().catch(() => {}); }, 600);
    }
  }

  /* The newest mask of frame n that the service has not taken; null: its keyframe was removed here. */
  async mine(n) {
    const png = this.autosave.pending(n);
    return png ? (await decodeMask(png)).labels : null;
  }

  /* The user's answer to a conflict; the other side stays one undo step away. */
  resolve(conflict, keepMine) {
    const { frame, mine, theirs } = conflict, kept = (keepMine ? mine : theirs) || this.empty, other = (keepMine ? theirs : mine) || this.empty;
    const step = { x: 0, y: 0, w: this.clip.width, h: this.clip.height, data: other };
    this.masks.put(frame, kept);
    this.histories.set(frame, { labels: kept, history: { undos: [step], redos: [] } });
    this.autosave.resolve(conflict, keepMine);
    if (!keepMine) this.refresh().catch(() => {});
  }

  /* ---- labels ---- */

  /* Frames to review, least certain first. */
  worstFirst() {
    return [...this.labels.values()].filter(isOpen).sort((a, b) => (a.confidence ?? 0) - (b.confidence ?? 0) || a.frame - b.frame).map((l) => l.frame);
  }

  /* Refused when somebody else reviewed the frame, or propagated it anew, since it was read here: then that is shown. */
  async setState(n, state) {
    try {
      const label = await request("PATCH", `${this.base}/labels/${n}`, { body: { state }, headers: { "If-Match": `"v${this.labels.get(n).version}"` } });
      this.labels.set(n, { ...this.labels.get(n), ...label });
    } catch (e) {
      if (e.status !== 412) throw e;
      await this.refresh();
      throw new Error(`The label of frame ${n} was changed elsewhere (now ${this.labels.get(n)?.state ?? "gone"}): look again`);
    }
    this.on.changed();
  }

  async acceptAbove(confidence) {
    const answer = await post(`${this.base}/labels/accept`, { min_confidence: confidence });
    await this.refresh();
    return answer;
  }

  /* Where the label of frame n is doubtful, bright; null when nothing says so. */
  async doubt(n) {
    const label = this.labels.get(n);
    return label?.uncertainty ? bitmap(`${this.base}/labels/${n}/uncertainty.png`, this.abort.signal) : null;
  }

  propagate() { return post(`${this.base}/propagate`, {}); }
  suggest() { return getAll(`${this.base}/suggest`); }

  close() {
    clearTimeout(this.refreshTimer);
    this.abort.abort();
    this.autosave.close();
    this.frames.clear();
    this.masks.clear();
  }
}
