/* The service as functions. Every failure is an ApiError that carries the problem+json document, so views can show its detail. */

import { saveBlob } from "./dom.js";
import { signIn } from "./signin.js";

export class ApiError extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `HTTP ${status}`);
    this.status = status;
    this.code = problem.code;
    this.requestId = problem.request_id;
  }
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return { detail: `The service answered ${response.status} ${response.statusText}` };
  }
}

export async function request(method, path, { body, headers = {}, raw = false, signal, cache } = {}) {
  const init = { method, headers: { Accept: "application/json", ...headers }, signal, cache };
  if (body instanceof Blob || body instanceof FormData || typeof body === "string") init.body = body;
  else if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers["Content-Type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch (e) {
    if (e.name === "AbortError") throw e;
    throw new ApiError(0, { detail: "The service cannot be reached", code: "offline" });
  }
  if (response.status === 401 && await signIn()) return request(method, path, { body, headers, raw, signal, cache });
  if (!response.ok) throw new ApiError(response.status, await problemOf(response));
  if (raw) return response;
  return response.status === 204 ? null : response.json();
}

export const get = (path, options) => request("GET", path, options);
export const post = (path, body, options) => request("POST", path, { body, ...options });

/* fetch() cannot report upload progress, so forms go through XMLHttpRequest. Resolves to the answer's document. */
export async function sendForm(path, form, onProgress, headers = {}) {
  try {
    return await sendOnce(path, form, onProgress, headers);
  } catch (e) {
    if (e.status === 401 && await signIn()) return sendOnce(path, form, onProgress, headers);
    throw e;
  }
}

function sendOnce(path, form, onProgress, headers) {
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", path);
    for (const [k, v] of Object.entries(headers)) xhr.setRequestHeader(k, v);
    xhr.upload.onprogress = (e) => e.lengthComputable && onProgress(e.loaded / e.total);
    xhr.onerror = () => reject(new ApiError(0, { detail: "The upload was cut off", code: "offline" }));
    xhr.onload = () => {
      let doc = {};
      try { doc = JSON.parse(xhr.responseText); } catch { doc = { detail: `The service answered ${xhr.status}` }; }
      if (xhr.status >= 200 && xhr.status < 300) resolve(doc);
      else reject(new ApiError(xhr.status, doc));
    };
    xhr.send(form);
  });
}

/* Uploads a clip. Resolves to what was made of it: a job or a clip. */
export function upload(path, file, onProgress) {
  const form = new FormData();
  form.append("clip", file, file.name);
  return sendForm(path, form, onProgress);
}

/*
 * Follows a job until it ends: server-sent events read through fetch (an EventSource does not tell why it failed),
 * resumed from the last event id after a lost connection. Calls onEvent(type, data); returns a function that stops.
 */
export function follow(jobId, onEvent) {
  const stop = new AbortController();
  (async () => {
    let lastId = "";
    for (let wait = 500; !stop.signal.aborted; wait = Math.min(wait * 2, 8000)) {
      try {
        const headers = { Accept: "text/event-stream", ...(lastId ? { "Last-Event-ID": lastId } : {}) };
        const response = await request("GET", `/v1/jobs/${jobId}/events`, { headers, raw: true, signal: stop.signal });
        for await (const event of events(response.body)) {
          wait = 500;
          if (event.id) lastId = event.id;
          if (event.data) onEvent(event.type, JSON.parse(event.data));
        }
        const job = await get(`/v1/jobs/${jobId}`, { signal: stop.signal });
        onEvent("state", job);
        if (isFinal(job.state)) return;
      } catch (e) {
        if (stop.signal.aborted) return;
        if (e.status === 404) { onEvent("gone", {}); return; }
      }
      await new Promise((r) => setTimeout(r, wait));
    }
  })();
  return () => stop.abort();
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", event = { type: "message", data: "", id: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n")) >= 0) {
      const line = text.slice(0, end).replace(/\r$/, "");
      text = text.slice(end + 1);
      if (line === "") {
        yield event;
        event = { type: "message", data: "", id: "" };
      } else if (!line.startsWith(":")) {
        const colon = line.indexOf(":");
        const field = colon < 0 ? line : line.slice(0, colon);
        const content = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
        if (field === "event") event.type = content;
        else if (field === "data") event.data += (event.data ? "\n" : "") + content;
        else if (field === "id") event.id = content;
      }
    }
  }
}

export const isFinal = (state) => state === "succeeded" || state === "failed" || state === "canceled";

/* Fetches an image as an ImageBitmap; unlike <img>, it can be cancelled and asks for the key. */
export async function bitmap(path, signal) {
  const response = await request("GET", path, { headers: { Accept: "image/*" }, raw: true, signal });
  return createImageBitmap(await response.blob());
}

/* Saves a protected resource under a name. */
export async function download(path, name) {
  const response = await request("GET", path, { headers: { Accept: "*/*" }, raw: true });
  saveBlob(await response.blob(), name);
}

/* Every item of a list, page after page. */
export async function getAll(path) {
  const items = [];
  for (let cursor = ""; cursor !== null;) {
    const query = cursor ? `${path.includes("?") ? "&" : "?"}cursor=${encodeURIComponent(cursor)}` : "";
    const page = await get(path + query);
    items.push(...(Array.isArray(page) ? page : page.items));
    cursor = page.next_cursor || null;
  }
  return items;
}
