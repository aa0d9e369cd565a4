/*
 * Edits the service has not acknowledged, in IndexedDB: a closed tab, a crash or a lost connection loses none. Every open editor is an
 * owner and holds a lock of its name, so another tab leaves its entries alone and adopts only those of editors that are gone.
 * An entry is {id: [scope, owner, frame], scope, owner, frame, etag, png}; png is an ArrayBuffer, or null for a removed keyframe.
 */

const DATABASE = "salient", STORE = "unsaved", LOCK = "salient.editor.";

const done = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

function openDatabase() {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE, { keyPath: "id" }).createIndex("scope", "scope");
  return done(opening);
}

async function ownersAlive() {
  if (!navigator.locks) return new Set(); /* plain http from another machine: all are adopted, a second sending is noticed by its ETag */
  const { held } = await navigator.locks.query();
  return new Set(held.filter((l) => l.name.startsWith(LOCK)).map((l) => l.name.slice(LOCK.length)));
}

export class Unsaved {
  /* scope: what is edited, the same for every tab. Without IndexedDB (`lasting` is false) nothing is kept beyond the tab. */
  static async open(scope) {
    const self = new Unsaved();
    self.scope = scope;
    self.owner = [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
    try {
      self.database = await openDatabase();
      navigator.locks?.request(LOCK + self.owner, () => new Promise((release) => { self.release = release; }));
    } catch {
      self.database = null;
    }
    return self;
  }

  get lasting() { return this.database !== null; }

  /* Entries of this scope that nobody works on, now this owner's. */
  async adopt() {
    if (!this.database) return [];
    const alive = await ownersAlive();
    const all = await done(this.database.transaction(STORE).objectStore(STORE).index("scope").getAll(this.scope));
    const orphans = all.filter((entry) => !alive.has(entry.owner));
    for (const entry of orphans) {
      this.write((store) => store.delete(entry.id));
      this.keep(entry.frame, entry.png, entry.etag);
    }
    return orphans;
  }

  /* Transactions run in the order of their calls, so a drop after a keep wins. */
  write(change) {
    if (!this.database) return;
    const transaction = this.database.transaction(STORE, "readwrite");
    transaction.onabort = () => { this.database = null; }; /* storage full or forbidden */
    change(transaction.objectStore(STORE));
  }

  keep(frame, png, etag) {
    const { scope, owner } = this;
    this.write((store) => store.put({ id: [scope, owner, frame], scope, owner, frame, etag, png }));
  }

  drop(frame) { this.write((store) => store.delete([this.scope, this.owner, frame])); }

  close() {
    this.release?.();
    this.database?.close();
    this.database = null;
  }
}
