/*
 * Saves masks as they are painted. One save per frame is under way at a time; a newer stroke replaces the one that waits. What is not
 * acknowledged stays in localStorage, so a closed tab or a lost connection loses nothing: it is sent again on the next visit.
 * If-Match carries the version the edit started from; when another tab was first (412) the edit is kept and the user is asked.
 */

import { ApiError, request } from "../api.js";

const toBase64 = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(blob);
});

function fromDataUrl(url) {
  const bytes = Uint8Array.from(atob(url.slice(url.indexOf(",") + 1)), (c) => c.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

export class Autosave {
  /* url(n): where the keyframe n is PUT. onState("saved" | "saving" | "offline" | "conflict" | "error", text, frame); onSaved(n). */
  constructor(key, url, { onState, onSaved }) {
    Object.assign(this, { key: `salient.unsaved.${key}.`, url, onState, onSaved });
    this.etags = new Map();   /* frame -> version last seen */
    this.waiting = new Map(); /* frame -> Blob */
    this.busy = false;
    this.closed = false;
    this.retry = 0;
    this.online = () => this.flush();
    window.addEventListener("online", this.online);
    for (const name of Object.keys(localStorage))
      if (name.startsWith(this.key)) {
        const { png, etag } = JSON.parse(localStorage.getItem(name));
        const n = Number(name.slice(this.key.length));
        this.waiting.set(n, fromDataUrl(png));
        if (etag !== undefined) this.etags.set(n, etag);
      }
    this.flush();
  }

  seen(n, etag) { if (!this.waiting.has(n)) this.etags.set(n, etag); }
  pending(n) { return this.waiting.get(n) || (this.sending?.n === n ? this.sending.blob : null); }
  get unsaved() { return this.waiting.size > 0 || this.busy; }

  async save(n, blob) {
    this.waiting.set(n, blob);
    try {
      localStorage.setItem(this.key + n, JSON.stringify({ png: await toBase64(blob), etag: this.etags.get(n) }));
    } catch { /* storage full or forbidden: the edit is still in memory and on its way */ }
    this.flush();
  }

  async flush() {
    clearTimeout(this.timer);
    if (this.busy || this.closed || this.waiting.size === 0) return;
    const [n, blob] = this.waiting.entries().next().value;
    this.waiting.delete(n);
    this.busy = true;
    this.sending = { n, blob };
    this.onState("saving", "Saving", n);
    try {
      const etag = this.etags.get(n);
      const condition = etag ? { "If-Match": etag } : { "If-None-Match": "*" };
      const response = await request("PUT", this.url(n), { body: blob, headers: { "Content-Type": "image/png", ...condition }, raw: true });
      this.etags.set(n, response.headers.get("ETag"));
      this.retry = 0;
      if (!this.waiting.has(n)) localStorage.removeItem(this.key + n);
      this.onSaved(n);
      this.onState(this.waiting.size ? "saving" : "saved", this.waiting.size ? "Saving" : "All changes saved", n);
    } catch (e) {
      this.failed(n, blob, e);
    }
    this.busy = false;
    this.sending = null;
    if (!this.timerSet) this.flush();
    this.timerSet = false;
  }

  failed(n, blob, e) {
    const replaced = this.waiting.has(n);
    if (e instanceof ApiError && e.status === 412) {
      this.conflict = { n, blob: replaced ? this.waiting.get(n) : blob };
      this.waiting.delete(n);
      this.onState("conflict", `Frame ${n} was changed elsewhere. Your version is kept here.`, n);
      return;
    }
    if (e instanceof ApiError && e.status >= 400 && e.status < 500 && e.status !== 429) {
      this.onState("error", `Frame ${n} was not saved: ${e.message}`, n);
      return;
    }
    if (!replaced) this.waiting.set(n, blob);
    this.timerSet = true;
    this.timer = setTimeout(() => this.flush(), Math.min(30000, 1000 * 2 ** this.retry++));
    this.onState("offline", "Not saved yet: no connection. Trying again.", n);
  }

  /* After a conflict: mine goes over the version `etag` just read, or theirs stays. */
  keepMine(etag) {
    const { n, blob } = this.conflict;
    this.conflict = null;
    this.etags.set(n, etag);
    return this.save(n, blob);
  }

  takeTheirs(etag) {
    const { n } = this.conflict;
    this.conflict = null;
    this.etags.set(n, etag);
    localStorage.removeItem(this.key + n);
    this.onState("saved", "All changes saved", n);
  }

  forget(n) {
    this.waiting.delete(n);
    this.etags.delete(n);
    localStorage.removeItem(this.key + n);
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    window.removeEventListener("online", this.online);
  }
}
