/* Models: who is champion and who challenges, how they compare, on figures and on frames; promote and roll back. */

import { bitmap, get, getAll, post, request, sendForm } from "../api.js";
import { Curves } from "../chart.js";
import { formatDay, h, toast } from "../dom.js";
import { digits, METRICS, table } from "../report.js";

const CHAMPION = "champion", CHALLENGER = "challenger", EXAMPLES = [0.15, 0.5, 0.85];

export async function models(root) {
  const list = await getAll("/v1/models");
  const name = (alias) => (alias ? `version ${alias.version}` : "–");
  root.append(h("h1", {}, "Models"), h("section", { class: "card" }, list.length
    ? table("Models", ["Model", "Architecture", "Champion", "Challenger", "Versions"],
      list.map((m) => [h("a", { href: `#/models/${m.name}` }, m.name), m.arch, name(m.aliases[CHAMPION]), name(m.aliases[CHALLENGER]), m.versions]), { words: true })
    : h("p", { class: "dim" }, "No models.")));
}

/* The figures of a version and on what they were measured: by its training, or (of one that came from elsewhere) by its maker. */
function figures(v) {
  const m = v?.metrics || {};
  if (m.challenger) return { ...m.challenger.metrics, on: "held-out labels" };
  const [on, values] = Object.entries(m).filter(([, x]) => Number.isFinite(x?.s_measure)).at(-1) || ["", m];
  return { ...values, on };
}

function comparison(champion, challenger) {
  const trained = challenger?.metrics?.champion ? challenger.metrics : null;
  const before = trained ? trained.champion.metrics : figures(champion), after = figures(challenger);
  const known = Object.keys(METRICS).filter((m) => Number.isFinite(before[m]) || Number.isFinite(after[m]));
  if (!challenger) return h("p", { class: "dim" }, "No challenger: retrain a project to get one.");
  const lower = (m) => ["mae", "j_decay", "f_decay", "temporal_stability"].includes(m);
  const delta = (m) => {
    const d = after[m] - before[m];
    if (!Number.isFinite(d)) return "";
    const better = lower(m) ? d < 0 : d > 0;
    return h("span", { class: d === 0 ? "dim" : better ? "good" : "error" }, `${d > 0 ? "+" : ""}${d.toFixed(4)} ${d === 0 ? "same" : better ? "better" : "worse"}`);
  };
  return h("div", {},
    trained?.reason ? h("p", {}, trained.reason) : "",
    trained?.snapshot ? h("p", { class: "dim" }, `Trained on ${trained.snapshot.train_labels} labels, measured on ${trained.snapshot.held_out_labels} held out.`) : "",
    trained ? "" : h("p", { class: "dim" }, "Measured apart: only figures of the same data compare. The Eval page measures both on yours."),
    known.length ? table("Champion against challenger", ["Metric", `Champion ${trained?.champion.version || champion?.version || ""}`, `Challenger ${challenger.version}`, "Difference"],
      known.map((m) => [METRICS[m], digits(before[m]), digits(after[m]), delta(m)])) : h("p", { class: "dim" }, "No figures for both."));
}

/* The maps of both versions beside the frame, on frames of a clip; made when asked for. */
function examples(model, versions, projectId) {
  const out = h("div", { class: "examples" }), clips = h("select", { "aria-label": "Clip" }), run = h("button", { type: "button", id: "do-examples" }, "Show example frames");
  getAll(projectId ? `/v1/projects/${projectId}/clips` : "/v1/clips?limit=20").catch(() => []).then((items) => {
    items = items.filter((c) => c.frames > 1); /* not the stills that were tried */
    clips.append(...items.map((c) => h("option", { value: c.id }, c.name || c.id)));
    clips.clips = items;
    run.disabled = items.length === 0;
  });

  async function map(picture, version) {
    const response = await request("POST", `/v1/saliency?model=${encodeURIComponent(`${model}@${version}`)}`, {
      body: picture, headers: { "Content-Type": "image/jpeg", Accept: "image/png", Prefer: "wait=60" }, raw: true,
    });
    if (response.status !== 200) throw new Error("The maps take too long: a job is in front. Try again later.");
    return createImageBitmap(await response.blob());
  }

  function show(image, name) {
    const canvas = h("canvas", { width: image.width, height: image.height, role: "img", "aria-label": name });
    canvas.getContext("2d").drawImage(image, 0, 0);
    image.close();
    return h("figure", { class: "figure" }, canvas, h("figcaption", { class: "dim" }, name));
  }

  run.addEventListener("click", async () => {
    const clip = clips.clips.find((c) => c.id === clips.value);
    run.disabled = true;
    out.replaceChildren();
    try {
      for (const part of EXAMPLES) {
        const n = Math.floor(part * clip.frames), path = `/v1/clips/${clip.id}/frames/${n}`;
        const picture = await (await request("GET", path, { headers: { Accept: "image/jpeg" }, raw: true })).blob();
        const row = h("div", { class: "example" }, show(await bitmap(path), `frame ${n}`));
        out.append(row);
        for (const [alias, v] of versions) row.append(show(await map(picture, v.version), `${alias}, version ${v.version}`));
      }
    } catch (e) {
      toast(e.message);
    }
    run.disabled = false;
  });
  return h("section", {}, h("h3", {}, "Example frames"), h("div", { class: "row" }, clips, run), out);
}

function aliasTags(aliases, version) {
  return Object.values(aliases).filter((a) => a.version === version).map((a) => h("span", { class: `state ${a.alias === CHAMPION ? "succeeded" : "running"}` }, a.alias));
}

function importForm(name, arch, changed) {
  const input = h("input", { type: "file", hidden: true, accept: ".safetensors,.pth,.pt", "aria-label": "Weights" });
  input.addEventListener("change", async () => {
    const form = new FormData();
    form.append("weights", input.files[0]);
    try {
      await sendForm(`/v1/models/${name}/versions?arch=${encodeURIComponent(arch)}`, form, () => {});
      changed();
    } catch (e) { toast(e.message); }
    input.value = "";
  });
  return [h("button", { type: "button", onclick: () => input.click() }, "Import a version"), input];
}

export async function model(root, [name]) {
  const body = h("div");
  root.append(h("nav", { class: "crumbs", "aria-label": "Place" }, h("a", { href: "#/models" }, "Models"), " /"), h("h1", {}, name), body);
  const act = (work) => async (e) => {
    e.currentTarget.disabled = true;
    try { await work(); await refresh(); } catch (error) { toast(error.message); e.target.disabled = false; }
  };

  async function refresh() {
    const m = await get(`/v1/models/${encodeURIComponent(name)}`), byVersion = new Map(m.versions.map((v) => [v.version, v]));
    const champion = byVersion.get(m.aliases[CHAMPION]?.version), challenger = byVersion.get(m.aliases[CHALLENGER]?.version);
    const promote = (v) => request("PUT", `/v1/models/${encodeURIComponent(name)}/aliases/${CHAMPION}`, {
      body: { version: v.version, reason: "promoted on the Models page" }, headers: m.aliases[CHAMPION] ? { "If-Match": `"${m.aliases[CHAMPION].generation}"` } : {},
    });
    const rollback = h("button", { type: "button", id: "do-rollback", class: "danger", onclick: act(() => post(`/v1/models/${encodeURIComponent(name)}/rollback`, { reason: "rolled back on the Models page" })) }, "Roll back");
    const curves = h("div");
    const showCurves = (v) => async () => {
      const set = new Curves();
      try { set.addAll((await get(`/v1/jobs/${v.job_id}/curves`)).curves); } catch (e) { toast(e.message); return; }
      set.draw();
      curves.replaceChildren(h("h3", {}, `Training of version ${v.version}`), set.element);
    };
    const actions = (v) => h("span", { class: "row end" },
      v.job_id ? h("button", { type: "button", class: "small", "aria-label": `Curves of version ${v.version}`, onclick: showCurves(v) }, "Curves") : "",
      v === champion ? "" : h("button", { type: "button", class: "small", "aria-label": `Promote version ${v.version}`, onclick: act(() => promote(v)) }, "Promote"));
    const rows = m.versions.map((v) => [h("span", { class: "row" }, v.version, aliasTags(m.aliases, v.version)), v.origin, digits(figures(v).s_measure), digits(figures(v).max_f), digits(figures(v).mae), figures(v).on, formatDay(v.created_at), actions(v)]);
    const former = byVersion.get(challenger?.metrics?.champion?.version); /* whom a challenger that is champion now has beaten */
    const both = champion === challenger ? [["former champion", former], [CHAMPION, champion]] : [[CHAMPION, champion], [CHALLENGER, challenger]];
    const detector = !/^fgplg/.test(m.arch);
    body.replaceChildren(
      h("section", { class: "card" }, h("div", { class: "row" }, h("h2", { class: "grow" }, "Versions"), importForm(name, m.arch, () => refresh().catch((e) => toast(e.message))), rollback),
        table("Versions", ["Version", "Origin", "S-measure", "max F", "MAE", "Measured on", "Made", ""], rows), curves),
      detector && h("section", { class: "card" }, h("h2", {}, "Champion and challenger"), comparison(champion, challenger), examples(name, both.filter(([, v]) => v), challenger?.metrics?.project)) || "",
      h("section", { class: "card" }, h("h2", {}, "History"), m.history.length
        ? table("History", ["Alias", "What", "From", "To", "Why", "When"], m.history.map((e) => [e.alias, e.action === "keep" ? "not moved" : e.action, e.from || "–", e.to, e.reason || "", formatDay(e.at)]), { words: true })
        : h("p", { class: "dim" }, "No alias has moved.")));
    rollback.disabled = !m.history.some((e) => e.moved && e.alias === CHAMPION && e.from);
  }
  await refresh();
}
