/* One project: its clips with what is labelled, a place to add more, export, import, retraining with its live curves. */

import { ApiError, bitmap, get, getAll, isFinal, post, request } from "../api.js";
import { Curves } from "../chart.js";
import { dropZone } from "../drop.js";
import { h, toast } from "../dom.js";
import { exportMenu } from "../exportmenu.js";
import { jobLine } from "../jobline.js";
import { addClip } from "./projects.js";

const THUMB_PX = 160;

function thumbnail(clip) {
  const canvas = h("canvas", { width: THUMB_PX, height: Math.round((THUMB_PX * clip.height) / clip.width) || 90, class: "thumb", "aria-hidden": "true" });
  bitmap(`/v1/clips/${clip.id}/frames/0`).then((b) => { canvas.getContext("2d").drawImage(b, 0, 0, canvas.width, canvas.height); b.close(); }, () => {});
  return canvas;
}

const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;

function countsText(c) {
  const parts = [plural(c.keyframes ?? 0, "keyframe"), plural(c.labels ?? 0, "label")];
  if (c.proposed) parts.push(`${c.proposed} to review`);
  if (c.accepted) parts.push(`${c.accepted} accepted`);
  if (c.rejected) parts.push(`${c.rejected} rejected`);
  return parts.join(", ");
}

function clipCard(project, clip, changed) {
  const href = `#/projects/${project.id}/clips/${clip.id}`, name = clip.name || clip.id;
  const remove = async () => {
    if (!window.confirm(`Take “${name}” out of the project, with its masks and labels?`)) return;
    try { await request("DELETE", `/v1/projects/${project.id}/clips/${clip.id}`, { raw: true }); changed(); } catch (e) { toast(e.message); }
  };
  return h("li", { class: "card clip" }, h("a", { href, class: "cover", tabIndex: -1, "aria-hidden": "true" }, thumbnail(clip)),
    h("div", { class: "grow" }, h("a", { href }, name), h("p", { class: "dim" }, `${plural(clip.frames, "frame")}, ${clip.width} × ${clip.height}`), h("p", {}, countsText(clip.counts || clip))),
    h("button", { type: "button", class: "danger small", "aria-label": `Remove ${name}`, onclick: remove }, "Remove"));
}

/* Retraining: the button, its progress, the curves as they grow, how it ended. */
function retrainPanel(project) {
  const curves = new Curves(), verdict = h("p", { role: "status" });
  const start = h("button", { type: "button", id: "do-retrain" }, "Retrain");
  const minutes = h("input", { type: "number", id: "retrain-minutes", min: 0.05, max: 1440, step: "any", value: 12 });
  const line = jobLine("Training", { onEnd: ended, onEvent: (type, data) => type === "curve" && curves.add(data) });

  async function ended(job) {
    start.disabled = false;
    const o = job.outputs || {};
    if (job.state !== "succeeded") return;
    const version = `Version ${o.challenger?.version ?? "?"} of ${o.model ?? "the model"}`;
    verdict.replaceChildren(`${version} ${o.promoted ? "is the champion now" : "stays a challenger"}${o.reason ? `: ${o.reason}` : ""}. `,
      h("a", { href: o.model ? `#/models/${o.model}` : "#/models" }, "Compare on the Models page"));
  }

  async function watch(job) {
    start.disabled = true;
    verdict.textContent = "";
    line.watch(job);
    const known = await get(`/v1/jobs/${job.id}/curves`).catch(() => ({ curves: {} }));
    curves.addAll(known.curves);
  }

  start.addEventListener("click", async () => {
    start.disabled = true;
    try { await watch(await post(`/v1/projects/${project.id}/retrain`, { minutes: Number(minutes.value) })); } catch (e) { start.disabled = false; verdict.textContent = e.message; }
  });
  get("/v1/jobs?limit=100").then(({ items }) => {
    const job = items.find((j) => j.kind === "train" && j.params?.project === project.id);
    if (job && !isFinal(job.state)) watch(job);
  }, () => {});
  const element = h("section", { class: "card", "aria-label": "Retrain" }, h("h2", {}, "Retrain the detector"),
    h("p", { class: "dim" }, "From all keyframes and accepted labels. Some are held out: the new version becomes the champion only when it is better on those."),
    h("div", { class: "row" }, start, h("label", { for: "retrain-minutes" }, "at most"), minutes, "minutes of training"), line.element, verdict, curves.element);
  return { element, stop: () => line.stop() };
}

function importButton(project, changed) {
  const input = h("input", { type: "file", accept: ".zip,application/zip", hidden: true, "aria-label": "Import labels" });
  input.addEventListener("change", async () => {
    try {
      const answer = await request("POST", `/v1/projects/${project.id}/import`, { body: input.files[0], headers: { "Content-Type": "application/zip" } });
      toast(`Imported: ${plural(answer.clips, "clip")}, ${plural(answer.keyframes, "keyframe")}, ${plural(answer.labels, "label")}`, "good");
      changed();
    } catch (e) {
      toast(e.message);
    }
    input.value = "";
  });
  return [h("button", { type: "button", onclick: () => input.click() }, "Import"), input];
}

/* What happens by itself: how many labels a propagation makes, when a retraining starts. */
function settingsForm(project) {
  const number = (id, value, props) => h("input", { id, type: "number", value, required: true, ...props });
  const field = (name, control) => h("div", { class: "field" }, h("label", { for: control.id }, name), control);
  const mode = h("select", { id: "retrain-mode" }, [["manual", "when asked"], ["auto", "by itself"]].map(([value, text]) => h("option", { value, selected: value === project.retrain.mode }, text)));
  const per = number("labels-per-interval", project.labels_per_interval, { min: 0, max: 1000 });
  const news = number("min-new-labels", project.retrain.min_new_labels, { min: 1, max: 1000000 });
  const holdout = number("holdout", Math.round(project.retrain.holdout * 100), { min: 0, max: 50 });
  const form = h("form", {}, h("div", { class: "fields" }, field("Retrain", mode), field("New labels that start it", news), field("Held out, percent", holdout), field("Labels between two keyframes (0: all)", per)),
    h("button", { type: "submit" }, "Save settings"));
  form.addEventListener("submit", async (e) => {
    e.preventDefault();
    const body = { labels_per_interval: Number(per.value), retrain: { mode: mode.value, min_new_labels: Number(news.value), holdout: Number(holdout.value) / 100 } };
    try {
      Object.assign(project, await request("PATCH", `/v1/projects/${project.id}`, { body, headers: { "If-Match": `"v${project.version}"` } }));
      toast("Saved", "good");
    } catch (error) {
      toast(error.status === 412 ? "Somebody else changed the settings: reload the page" : error.message);
    }
  });
  return h("details", { class: "card" }, h("summary", {}, "Settings"), form);
}

/* Name and removal. */
function nameAndRemoval(project, title) {
  const rename = async () => {
    const name = window.prompt("Name of the project", project.name)?.trim();
    if (!name || name === project.name) return;
    try { Object.assign(project, await request("PATCH", `/v1/projects/${project.id}`, { body: { name } })); title.textContent = project.name; } catch (e) { toast(e.message); }
  };
  const remove = async () => {
    if (!window.confirm(`Delete “${project.name}” with all its masks and labels?`)) return;
    try { await request("DELETE", `/v1/projects/${project.id}`, { raw: true }); location.hash = "#/projects"; } catch (e) { toast(e.message); }
  };
  return [h("button", { type: "button", onclick: rename }, "Rename"), h("button", { type: "button", class: "danger", onclick: remove }, "Delete project")];
}

export async function project(root, [id]) {
  const doc = await get(`/v1/projects/${id}`).catch((e) => { throw e instanceof ApiError && e.status === 404 ? new Error("There is no such project (any more).") : e; });
  const title = h("h1", {}, doc.name), list = h("ul", { class: "clips", "aria-label": "Clips" }), exporter = exportMenu(doc), retrain = retrainPanel(doc);

  async function refresh() {
    const clips = await getAll(`/v1/projects/${id}/clips`);
    list.replaceChildren(...clips.map((c) => clipCard(doc, c, () => refresh().catch((e) => toast(e.message)))));
    return clips.length;
  }
  async function add(file, onProgress) {
    const first = list.childElementCount === 0, clip = await addClip(id, file, onProgress);
    if (first) location.hash = `#/projects/${id}/clips/${clip.id}`;
    else await refresh();
  }
  const drop = dropZone({ id: "clip-file", button: "Add a clip", multiple: true, send: add, heading: "", hint: "Drop videos, or zips of frames, to annotate." });
  root.append(
    h("nav", { class: "crumbs", "aria-label": "Place" }, h("a", { href: "#/projects" }, "Projects"), " / "),
    h("div", { class: "row head" }, title, h("span", { class: "grow" }), exporter.element, importButton(doc, refresh), nameAndRemoval(doc, title)),
    list, drop, retrain.element, settingsForm(doc));
  await refresh();
  return () => { exporter.close(); retrain.stop(); };
}
