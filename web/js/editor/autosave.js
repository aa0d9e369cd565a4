/*
 * Saves masks as they are painted. One request is under way at a time; a newer stroke on a frame replaces the one that waits. What is
 * not acknowledged stays in IndexedDB and is sent again: after a pause, when the connection is back, on the next visit.
 * If-Match carries the version the edit started from. When somebody else was first (412) nothing is written: the two masks are
 * compared, equal ones are one edit whose answer got lost, different ones are a conflict that the user decides.
 */

import { ApiError, request } from "../api.js";
import { decodeMask } from "../png.js";
import { sameLabels } from "./mask.js";
import { Unsaved } from "./unsaved.js";

const PNG = { "Content-Type": "image/png" };
const RETRY_MS = 1000, RETRY_MAX_MS = 15000, TIMEOUT_MS = 30000;

export class Autosave {
  /*
   * url(n): where keyframe n is PUT. onState(state, text): saved, saving, offline, conflict, error. onSaved(n, removed).
   * onConflict({frame, mine, theirs, etag}): labels, null where a side removed the keyframe; answered by resolve().
   */
  static async open(scope, url, handlers) {
    const self = new Autosave();
    Object.assign(self, { url, ...handlers, unsaved: await Unsaved.open(scope) });
    self.etags = new Map();     /* frame -> version the edit starts from; null: there is none */
    self.waiting = new Map();   /* frame -> ArrayBuffer, or null to remove */
    self.conflicts = new Map(); /* frame -> the same, until the user decides */
    self.sending = null;
    self.retries = 0;
    for (const { frame, png, etag } of await self.unsaved.adopt()) {
      self.waiting.set(frame, png);
      self.etags.set(frame, etag);
    }
    self.online = () => self.flush();
    window.addEventListener("online", self.online);
    self.flush();
    return self;
  }

  /* The version of frame n that is on the screen, unless an edit of it is on its way. */
  seen(n, etag) { if (this.pending(n) === undefined) this.etags.set(n, etag); }

  /* The newest edit of frame n that is not acknowledged: a PNG, null for a removal, undefined for none. */
  pending(n) {
    if (this.waiting.has(n)) return this.waiting.get(n);
    if (this.conflicts.has(n)) return this.conflicts.get(n);
    return this.sending?.n === n ? this.sending.png : undefined;
  }

  get clean() { return this.waiting.size === 0 && this.conflicts.size === 0 && !this.sending; }

  /* png: ArrayBuffer, or null to remove the keyframe. */
  save(n, png) {
    this.unsaved.keep(n, png, this.etags.get(n) ?? null);
    if (this.conflicts.has(n)) { this.conflicts.set(n, png); this.settled(); return; }
    this.waiting.set(n, png);
    this.flush();
  }

  async flush() {
    clearTimeout(this.timer);
    if (this.sending || this.closed || this.waiting.size === 0) return;
    const [n, png] = this.waiting.entries().next().value;
    this.waiting.delete(n);
    this.sending = { n, png };
    this.onState("saving", "Saving…");
    let pause = false;
    try {
      await this.send(n, png);
      this.acknowledged(n, png);
    } catch (e) {
      pause = await this.failed(n, png, e);
    }
    this.sending = null;
    if (pause) this.timer = setTimeout(() => this.flush(), Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** this.retries++));
    else if (this.waiting.size) this.flush();
    else this.settled();
  }

  settled() {
    const [n] = this.conflicts.keys();
    if (n !== undefined) this.onState("conflict", `Conflict: frame ${n} was changed elsewhere`);
    else if (this.clean) this.onState("saved", "All changes saved");
  }

  async send(n, png) {
    const etag = this.etags.get(n), signal = AbortSignal.timeout(TIMEOUT_MS);
    const headers = etag ? { "If-Match": etag } : { "If-None-Match": "*" };
    if (png === null) {
      if (etag) await request("DELETE", this.url(n), { headers, raw: true, signal });
      this.etags.set(n, null);
      return;
    }
    const response = await request("PUT", this.url(n), { body: new Blob([png], { type: PNG["Content-Type"] }), headers: { ...PNG, ...headers }, raw: true, signal });
    this.etags.set(n, response.headers.get("ETag"));
  }

  acknowledged(n, png) {
    this.retries = 0;
    if (this.waiting.has(n)) this.unsaved.keep(n, this.waiting.get(n), this.etags.get(n));
    else this.unsaved.drop(n);
    this.onSaved(n, png === null);
  }

  /* True when it should be tried again later. The edit is kept in every case. */
  async failed(n, png, e) {
    const status = e instanceof ApiError ? e.status : -1;
    if (status === 412 || (status === 404 && png === null)) {
      try { return await this.refused(n, png); } catch (other) { e = other; }
    }
    if (!this.waiting.has(n)) this.waiting.set(n, png);
    const text = e instanceof ApiError && e.status > 0 ? e.message : "no connection";
    const kept = this.unsaved.lasting ? "kept on this device" : "kept in this tab";
    if (e instanceof ApiError && e.status === 0) this.onState("offline", `Offline: ${kept}, sent later`);
    else this.onState("error", `Frame ${n} is not saved (${text}); ${kept}, trying again`);
    return true;
  }

  /* Somebody else wrote frame n first. */
  async refused(n, png) {
    const theirs = await this.fetch(n);
    const newest = this.waiting.has(n) ? this.waiting.get(n) : png;
    const mine = newest === null ? null : (await decodeMask(newest)).labels;
    const equal = mine === null || theirs.labels === null ? mine === theirs.labels : sameLabels(mine, theirs.labels);
    this.waiting.delete(n);
    if (equal) {
      this.etags.set(n, theirs.etag);
      this.acknowledged(n, newest);
      return false;
    }
    this.conflicts.set(n, newest);
    this.onConflict({ frame: n, mine, theirs: theirs.labels, etag: theirs.etag });
    return false;
  }

  /* What the service has: {labels or null, etag or null} */
  async fetch(n) {
    try {
      const response = await request("GET", this.url(n), { headers: { Accept: "image/png" }, cache: "no-store", raw: true });
      return { labels: (await decodeMask(await response.arrayBuffer())).labels, etag: response.headers.get("ETag") };
    } catch (e) {
      if (e.status === 404 || e.status === 410) return { labels: null, etag: null };
      throw e;
    }
  }

  /* The user's answer to a conflict: mine goes over the version that was compared, or theirs stays. */
  resolve({ frame, etag }, keepMine) {
    const png = this.conflicts.get(frame);
    this.conflicts.delete(frame);
    this.etags.set(frame, etag);
    if (keepMine) { this.save(frame, png); return; }
    this.unsaved.drop(frame);
    this.settled();
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    window.removeEventListener("online", this.online);
    this.unsaved.close();
  }
}
