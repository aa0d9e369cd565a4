/* The annotation projects: drop a clip to start one, or name an empty one. */

import { getAll, post, upload } from "../api.js";
import { dropZone } from "../drop.js";
import { formatDay, h, toast } from "../dom.js";

/* Uploads a clip and adds it to a project; resolves to the clip. */
export async function addClip(projectId, file, onProgress) {
  const clip = await upload("/v1/clips", file, onProgress);
  await post(`/v1/projects/${projectId}/clips`, { clip_id: clip.id });
  return clip;
}

/* From a file straight to painting: a project of the file's name with this clip. */
export async function annotateNew(file, onProgress) {
  const clip = await upload("/v1/clips", file, onProgress);
  const project = await post("/v1/projects", { name: file.name.replace(/\.[^.]+$/, "") || "New project" });
  await post(`/v1/projects/${project.id}/clips`, { clip_id: clip.id });
  location.hash = `#/projects/${project.id}/clips/${clip.id}`;
}

export async function projects(root) {
  const name = h("input", { id: "project-name", required: true, maxLength: 120, class: "grow", placeholder: "Name", "aria-label": "Project name" });
  const form = h("form", { class: "row card" }, name, h("button", { type: "submit" }, "New project"));
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    try {
      const made = await post("/v1/projects", { name: name.value.trim() });
      location.hash = `#/projects/${made.id}`;
    } catch (error) {
      toast(error.message);
    }
  });
  const drop = dropZone({
    id: "annotate-file", button: "Annotate a clip", send: annotateNew, heading: h("h2", { class: "h1" }, "Drop a clip to start"),
    hint: "A project is made of it, and you paint at once.",
  });
  root.append(h("h1", {}, "Projects"), drop, form);
  const list = await getAll("/v1/projects");
  const row = (p) => h("tr", {}, h("td", {}, h("a", { href: `#/projects/${p.id}` }, p.name)),
    h("td", { class: "num" }, p.clips ?? ""), h("td", { class: "num" }, p.counts?.keyframes ?? ""), h("td", { class: "hide-narrow" }, formatDay(p.updated_at || p.created_at)));
  root.append(h("section", { class: "card" }, list.length
    ? h("div", { class: "scroll" }, h("table", { "aria-label": "Projects" }, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Project"), h("th", { scope: "col", class: "num" }, "Clips"),
      h("th", { scope: "col", class: "num" }, "Keyframes"), h("th", { scope: "col", class: "hide-narrow" }, "Changed"))), h("tbody", {}, list.map(row))))
    : h("p", { class: "dim" }, "No project yet.")));
}
