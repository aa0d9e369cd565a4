/* Evaluation: two zips, or a stored model on stored data; the report; baselines with their trend. */

import { get, getAll, request, sendForm } from "../api.js";
import { chart } from "../chart.js";
import { formatDay, h, saveText, toast } from "../dom.js";
import { jobLine } from "../jobline.js";
import { METRICS, reportView, table } from "../report.js";

const option = (value, text = value) => h("option", { value }, text);
const field = (id, name, control) => { control.id = id; return h("div", { class: "field" }, h("label", { for: id }, name), control); };
const file = () => h("input", { type: "file", accept: ".zip,application/zip" });

function makeForm() {
  const at = {
    pred: file(), gt: file(), model: h("select"), data: h("select", {}, option("", "Choose")),
    protocol: h("select", {}, ["davis", "pysod", "davsod"].map((p) => option(p))),
    min: h("input", { placeholder: "s_measure:0.85,max_f:0.8" }), baseline: h("select", {}, option("", "none")), maxDrop: h("input", { placeholder: "max_f:0.005" }),
    run: h("button", { type: "submit", class: "primary", id: "do-evaluate" }, "Evaluate"),
  };
  const zips = h("div", { class: "fields" }, field("pred", "Predictions (zip)", at.pred), field("gt", "Ground truth (zip)", at.gt));
  const stored = h("div", { class: "fields", hidden: true }, field("eval-model", "Model", at.model), field("eval-data", "Data", at.data));
  const pick = (name, on) => h("button", { type: "button", "aria-pressed": String(on) }, name);
  const tabs = [pick("Two zips", true), pick("A stored model", false)];
  tabs.forEach((tab, i) => tab.addEventListener("click", () => {
    tabs.forEach((t, k) => t.setAttribute("aria-pressed", String(k === i)));
    zips.hidden = i === 1;
    stored.hidden = i === 0;
  }));
  at.stored = () => !stored.hidden;
  at.element = h("form", { class: "card", novalidate: true }, h("div", { class: "seg", role: "group", "aria-label": "What to evaluate" }, tabs), zips, stored,
    h("div", { class: "fields" }, field("protocol", "Protocol", at.protocol), field("min", "Worst values that pass", at.min), field("baseline", "Baseline", at.baseline), field("max-drop", "Largest drops", at.maxDrop)),
    h("div", { class: "row" }, at.run));
  return at;
}

async function fillChoices(at) {
  const quiet = (promise) => promise.catch(() => []);
  const [models, datasets, projects] = await Promise.all([quiet(getAll("/v1/models")), quiet(getAll("/v1/datasets")), quiet(getAll("/v1/projects"))]);
  at.model.append(...models.filter((m) => !/^fgplg/.test(m.arch || m.name)).map((m) => option(m.name)));
  const group = (label, prefix, items) => items.length && h("optgroup", { label }, items.map((d) => option(`${prefix}:${d.id || d.name}`, d.name)));
  at.data.append(...[group("Data sets", "dataset", datasets), group("Projects", "project", projects)].filter(Boolean));
}

function params(at) {
  const out = { protocol: at.protocol.value };
  if (at.min.value.trim()) out.min = at.min.value.trim();
  if (at.baseline.value) out.baseline = at.baseline.value;
  if (at.baseline.value && at.maxDrop.value.trim()) out.max_drop = at.maxDrop.value.trim();
  return out;
}

/* Baselines: a table, and the trend of the one that is chosen. */
function baselinesPanel(at) {
  const list = h("div"), trend = h("div"), metrics = h("select", { "aria-label": "Metric of the trend" }, Object.entries(METRICS).map(([m, name]) => option(m, name)));
  metrics.value = "s_measure";
  let chosen = "";

  async function show(name) {
    chosen = name;
    const { items } = await get(`/v1/baselines/${encodeURIComponent(name)}/history`), m = metrics.value;
    const points = items.map((v, i) => [i + 1, v.overall?.[m]]).filter((p) => Number.isFinite(p[1]));
    trend.replaceChildren(h("div", { class: "row" }, h("h3", { class: "grow" }, `Trend of ${name}`), metrics),
      chart({ title: METRICS[m], xName: "version", series: [{ name, points }], marks: true, xTick: (v) => (Number.isInteger(v) ? String(v) : "") }));
  }
  metrics.addEventListener("change", () => show(chosen).catch((e) => toast(e.message)));

  async function refresh() {
    const { items } = await get("/v1/baselines"), now = at.baseline.value;
    at.baseline.replaceChildren(option("", "none"), ...items.map((b) => option(b.name)));
    at.baseline.value = now;
    list.replaceChildren(items.length ? table("Baselines", ["Name", "Versions", "Changed", ""], items.map((b) => [b.name, b.versions, formatDay(b.updated_at),
      h("button", { type: "button", class: "small", "aria-label": `Trend of ${b.name}`, onclick: () => show(b.name).catch((e) => toast(e.message)) }, "Trend")]), { words: true })
      : h("p", { class: "dim" }, "No baseline yet: evaluate, then keep the result under a name."));
    if (chosen && items.some((b) => b.name === chosen)) await show(chosen);
    else if (items.length) await show(items[0].name);
  }
  return { element: h("section", { class: "card" }, h("h2", {}, "Baselines"), list, trend), refresh };
}

export async function evaluation(root) {
  const at = makeForm(), said = h("p", { role: "status", class: "error" }), bar = h("progress", { max: 1, hidden: true, "aria-label": "Upload" });
  const result = h("section", { class: "card", hidden: true, "aria-label": "Report" }), baselines = baselinesPanel(at);
  const line = jobLine("Evaluating", {
    onEnd: async (job) => {
      at.run.disabled = false;
      if (job.state !== "succeeded") return;
      try { show(await get(`/v1/jobs/${job.id}/report`)); } catch (e) { said.textContent = e.message; }
    },
  });

  function show(report) {
    const name = h("input", { value: at.baseline.value || "main", "aria-label": "Name of the baseline", maxLength: 64 });
    const keep = h("button", { type: "button", id: "do-keep" }, "Keep as baseline");
    keep.addEventListener("click", async () => {
      try {
        await request("PUT", `/v1/baselines/${encodeURIComponent(name.value.trim())}`, { body: report });
        await baselines.refresh();
        toast("Kept", "good");
      } catch (e) { toast(e.message); }
    });
    result.hidden = false;
    result.replaceChildren(h("h2", {}, "Report"), reportView(report), h("div", { class: "row" }, name, keep,
      h("button", { type: "button", onclick: () => saveText(JSON.stringify(report, null, 1), "report.json") }, "Download JSON")));
    result.scrollIntoView({ block: "start", behavior: "smooth" });
  }

  async function zips() {
    if (!at.pred.files[0] || !at.gt.files[0]) throw new Error("Choose both zips: predictions and ground truth.");
    const form = new FormData();
    form.append("pred", at.pred.files[0]);
    form.append("gt", at.gt.files[0]);
    bar.hidden = false;
    show(await sendForm(`/eval?${new URLSearchParams(params(at))}`, form, (part) => { bar.value = part; }));
  }

  async function stored() {
    const [kind, id] = at.data.value.split(":");
    if (!at.model.value || !id) throw new Error("Choose a model and the data to run it on.");
    line.watch(await request("POST", "/eval", { body: { model: at.model.value, [kind]: id, ...params(at) }, headers: { Prefer: "respond-async" } }));
  }

  at.element.addEventListener("submit", async (e) => {
    e.preventDefault();
    said.textContent = "";
    at.run.disabled = true;
    try { await (at.stored() ? stored() : zips()); } catch (error) { said.textContent = error.message; }
    bar.hidden = true;
    at.run.disabled = line.busy;
  });
  root.append(h("h1", {}, "Evaluate"), at.element, said, bar, line.element, result, baselines.element);
  await Promise.all([fillChoices(at), baselines.refresh()]);
  return () => line.stop();
}
