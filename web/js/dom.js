/* Small DOM helpers. `h` builds elements; text is always set as text, never parsed as HTML. */

export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) el.addEventListener(key.slice(2), value);
    else if (key === "class") el.className = value;
    else if (key in el && key !== "list" && !key.startsWith("aria")) el[key] = value;
    else el.setAttribute(key, value === true ? "" : value);
  }
  el.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

export function toast(message, kind = "bad") {
  const box = document.getElementById("toasts");
  const el = h("div", { class: `toast ${kind}` }, String(message));
  box.append(el);
  setTimeout(() => el.remove(), 8000);
}

/* Hands text to the user as a file. */
export function saveText(text, name) { saveBlob(new Blob([text]), name); }

export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

export function formatBytes(n) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i++; }
  return `${n.toFixed(i && n < 10 ? 1 : 0)} ${units[i]}`;
}

export function formatSeconds(s) {
  if (s === null || s === undefined) return "";
  if (s < 60) return `${Math.max(0, Math.round(s))} s`;
  return `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

export function formatTime(rfc3339) {
  return rfc3339 ? new Date(rfc3339).toLocaleTimeString() : "";
}

export function formatDay(rfc3339) {
  return rfc3339 ? new Date(rfc3339).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
}

/* True when a keyboard event belongs to a control that types or slides by itself. */
export function isTyping(event) {
  const t = event.target;
  return t instanceof HTMLInputElement || t instanceof HTMLSelectElement || t instanceof HTMLTextAreaElement || event.ctrlKey || event.metaKey || event.altKey;
}
