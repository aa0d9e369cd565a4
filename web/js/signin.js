/* Asks for an API key when the service wants one. The service keeps it in a cookie that no script, also not ours, can read. */

import { h } from "./dom.js";

let asking = null;

/* Resolves to true when there is a key now, false when the user gave up. However many requests ask, one dialog is shown. */
export function signIn() {
  asking ??= ask().finally(() => { asking = null; });
  return asking;
}

async function accepted(key) {
  const response = await fetch("/v1/session", { method: "POST", headers: { Authorization: `Bearer ${key}` } });
  return response.ok;
}

function ask() {
  return new Promise((resolve) => {
    let done = false;
    const field = h("input", { type: "password", autocomplete: "current-password", required: true, id: "api-key", spellcheck: false });
    const wrong = h("p", { class: "error", role: "alert" });
    const submit = async (e) => {
      e.preventDefault();
      try {
        done = await accepted(field.value.trim());
        wrong.textContent = done ? "" : "The service does not know this key.";
      } catch {
        wrong.textContent = "The service cannot be reached.";
      }
      if (done) dialog.close();
      else field.select();
    };
    const dialog = h("dialog", { class: "signin", "aria-label": "API key" },
      h("form", { onsubmit: submit },
        h("h2", {}, "API key"),
        h("p", {}, h("label", { htmlFor: "api-key" }, "This service asks for a key. Whoever runs it makes one with ",
          h("code", {}, "salient key add"), ".")),
        field, wrong,
        h("div", { class: "row" }, h("button", { type: "submit", class: "primary" }, "Continue"),
          h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(done); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
