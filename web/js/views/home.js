/* Start page: drop a clip or an image, see the recent jobs. */

import { get, upload } from "../api.js";
import { formatBytes, h, toast } from "../dom.js";
import { jobTable } from "../jobtable.js";

export async function home(root) {
  const input = h("input", { type: "file", id: "file", accept: "video/*,image/*,application/zip,.zip,.mkv", hidden: true });
  const choose = h("button", { class: "primary", type: "button", onclick: () => input.click() }, "Choose a file");
  const bar = h("progress", { max: 1, value: 0, hidden: true, "aria-label": "Upload" });
  const said = h("p", { class: "hint", role: "status" }, "Video, image, or a zip of frames. Or drop it here.");
  const drop = h("section", { class: "drop", "aria-label": "Upload" },
    h("h1", {}, "What stands out in your video?"),
    h("p", { class: "hint" }, "Upload a clip; get a saliency map for every frame."),
    h("p", {}, choose), input, said, bar);
  const model = h("select", { id: "model" }, h("option", { value: "" }, "default model"));
  const overlay = h("input", { type: "checkbox", id: "overlay", checked: true });
  const options = h("div", { class: "row card" },
    h("label", { for: "model" }, "Model"), model,
    h("label", { class: "row" }, overlay, "Overlay video"));

  let busy = false;
  async function send(file) {
    if (!file || busy) return;
    busy = true;
    choose.disabled = true;
    bar.hidden = false;
    said.className = "hint";
    said.textContent = `Uploading ${file.name} (${formatBytes(file.size)})`;
    const query = new URLSearchParams();
    if (model.value) query.set("model", model.value);
    if (overlay.checked) query.set("overlay", "1");
    try {
      const made = await upload(`/v1/saliency?${query}`, file, (part) => { bar.value = part; });
      location.hash = `#/jobs/${made.id}`;
    } catch (e) {
      said.textContent = e.message;
      said.className = "error";
    } finally {
      busy = false;
      choose.disabled = false;
      bar.hidden = true;
      input.value = "";
    }
  }
  input.addEventListener("change", () => send(input.files[0]));
  const over = (on) => (e) => { e.preventDefault(); drop.classList.toggle("over", on); };
  drop.addEventListener("dragover", over(true));
  drop.addEventListener("dragleave", over(false));
  drop.addEventListener("drop", (e) => { over(false)(e); send(e.dataTransfer.files[0]); });

  const table = jobTable({ limit: 10 });
  root.append(drop, options, h("section", { class: "card" }, h("h2", {}, "Recent jobs"), table.element));
  get("/v1/models").then((list) => {
    for (const m of list.items || []) model.append(h("option", { value: m.name }, m.name));
  }, (e) => { if (e.status !== 404) toast(e.message); });
  table.start();
  return () => table.stop();
}
