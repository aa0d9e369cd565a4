/* Start page: drop a clip, either to annotate it or to see what stands out in it; below, the recent jobs. */

import { get, upload } from "../api.js";
import { dropZone } from "../drop.js";
import { h, toast } from "../dom.js";
import { jobTable } from "../jobtable.js";
import { annotateNew } from "./projects.js";

export async function home(root) {
  const model = h("select", { id: "model" }, h("option", { value: "" }, "default model"));
  const overlay = h("input", { type: "checkbox", id: "overlay", checked: true });
  async function saliency(file, onProgress) {
    const query = new URLSearchParams();
    if (model.value) query.set("model", model.value);
    if (overlay.checked) query.set("overlay", "1");
    const made = await upload(`/v1/saliency?${query}`, file, onProgress);
    location.hash = `#/jobs/${made.id}`;
  }
  const maps = dropZone({
    id: "file", button: "Choose a file", send: saliency, heading: h("h1", {}, "What stands out in your video?"),
    hint: "Drop a video, an image or a zip of frames: get a saliency map for every frame.",
  });
  maps.append(h("div", { class: "row options" }, h("label", { for: "model" }, "Model"), model, h("label", { class: "row" }, overlay, "Overlay video")));
  const annotate = dropZone({
    id: "annotate-file", button: "Annotate a clip", send: annotateNew, heading: h("h2", { class: "h1" }, "Label an object in every frame"),
    hint: "Drop a clip here and paint the object on one frame or a few: every other frame gets its label.",
  });
  const table = jobTable({ limit: 10 });
  root.append(h("div", { class: "halves" }, maps, annotate), h("section", { class: "card" }, h("h2", {}, "Recent jobs"), table.element));
  get("/v1/models").then((list) => {
    for (const m of list.items || []) if (!/^fgplg/.test(m.arch || m.name)) model.append(h("option", { value: m.name }, m.name));
  }, (e) => { if (e.status !== 404) toast(e.message); });
  table.start();
  return () => table.stop();
}
