/* A place to drop a clip, or to choose one: says what happens, shows the upload's progress, explains a refusal. */

import { formatBytes, h } from "./dom.js";

export const CLIPS = "video/*,image/*,application/zip,.zip,.mkv";

/* send(file, onProgress): the upload. `heading` and `hint` are elements or text; `id` is that of the file input. */
export function dropZone({ id, heading, hint, button, multiple = false, accept = CLIPS, send }) {
  const input = h("input", { type: "file", id, accept, multiple, hidden: true, "aria-label": button });
  const choose = h("button", { class: "primary", type: "button", onclick: () => input.click() }, button);
  const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" });
  const said = h("p", { class: "hint", role: "status" });
  const zone = h("section", { class: "drop", "aria-label": button }, heading, h("p", { class: "hint" }, hint), h("p", {}, choose), input, said, bar);
  let busy = false;

  async function take(files) {
    if (busy || !files.length) return;
    busy = choose.disabled = true;
    bar.hidden = false;
    said.className = "hint";
    try {
      for (const file of files) {
        said.textContent = `Uploading ${file.name} (${formatBytes(file.size)})`;
        await send(file, (part) => { bar.value = part; });
      }
      said.textContent = "";
    } catch (e) {
      said.textContent = e.message;
      said.className = "error";
    }
    busy = choose.disabled = false;
    bar.hidden = true;
    input.value = "";
  }
  input.addEventListener("change", () => take([...input.files]));
  const over = (on) => (e) => { e.preventDefault(); zone.classList.toggle("over", on); };
  zone.addEventListener("dragover", over(true));
  zone.addEventListener("dragleave", over(false));
  zone.addEventListener("drop", (e) => { over(false)(e); take([...e.dataTransfer.files].slice(0, multiple ? undefined : 1)); });
  return zone;
}
