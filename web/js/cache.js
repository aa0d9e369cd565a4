/* A bounded cache of what is loaded asynchronously; the least recently used goes first. A failed load is forgotten. */

export class Cache {
  /* load(key) -> promise of a value; drop(value) releases it. */
  constructor(limit, load, drop = () => {}) {
    Object.assign(this, { limit, load, drop });
    this.entries = new Map();
  }

  has(key) { return this.entries.has(key); }

  get(key) {
    let pending = this.entries.get(key);
    if (pending) this.entries.delete(key);
    else pending = this.load(key).catch((e) => { if (this.entries.get(key) === pending) this.entries.delete(key); throw e; });
    this.entries.set(key, pending);
    while (this.entries.size > this.limit) this.delete(this.entries.keys().next().value);
    return pending;
  }

  put(key, value) {
    this.delete(key);
    this.entries.set(key, Promise.resolve(value));
  }

  delete(key) {
    const pending = this.entries.get(key);
    this.entries.delete(key);
    pending?.then(this.drop, () => {});
  }

  clear() { for (const key of [...this.entries.keys()]) this.delete(key); }
}

/* Loads what comes next, a few at a time. wanted: keys in order. */
export function prefetch(cache, wanted, parallel = 4) {
  let started = 0;
  for (const key of wanted) {
    if (cache.has(key)) continue;
    if (started++ === parallel) return;
    cache.get(key).catch(() => {});
  }
}
