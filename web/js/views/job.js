/* One job: progress while it runs; of a saliency job the result as soon as its first map is written. */

import { download, get, isFinal, post } from "../api.js";
import { Curves } from "../chart.js";
import { h, isTyping, toast } from "../dom.js";
import { progressText, watchJob } from "../jobline.js";
import { MODES, Player } from "../player.js";
import { reportView } from "../report.js";

export async function job(root, [id]) {
  let j = await get(`/v1/jobs/${id}`);
  const state = h("span", { class: "state" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": "Progress" });
  const line = h("p", { class: "dim", role: "status" });
  const cancel = h("button", { type: "button", onclick: () => post(`/v1/jobs/${id}/cancel`).catch((e) => toast(e.message)) }, "Cancel");
  const files = h("div", { class: "row" });
  root.append(
    h("div", { class: "row" }, h("h1", { class: "grow" }, "Job ", h("span", { class: "mono" }, id)), state, cancel),
    bar, line);
  const detail = await makeDetail(root, j);
  const viewer = j.kind === "saliency" && j.clip_id ? await makeViewer(root, j) : null;
  root.append(files);

  function show() {
    const { done = 0, total = 0 } = j.progress || {};
    state.textContent = j.state;
    state.className = `state ${j.state}`;
    bar.hidden = isFinal(j.state);
    if (total > 0) bar.value = done / total;
    else bar.removeAttribute("value");
    cancel.hidden = isFinal(j.state);
    line.className = j.error ? "error" : "dim";
    line.textContent = progressText(j) + (j.model && !j.error ? ` · ${j.model}` : "");
    if (viewer && (j.state === "running" || j.state === "succeeded")) viewer.available(done);
    if (j.state === "succeeded" && j.kind === "saliency" && !files.childElementCount) {
      files.append(save("Maps (zip)", `/v1/jobs/${id}/maps.zip`, `${id}-maps.zip`));
      if (j.outputs?.overlay) files.append(save("Overlay video", `/v1/jobs/${id}/overlay.mp4`, `${id}-overlay.mp4`));
    }
  }
  show();
  const stop = watchJob(j, (now) => { j = now; show(); if (isFinal(j.state)) detail.ended(j); }, (type, data) => {
    if (type === "gone") line.textContent = "This job was removed.";
    else detail.event(type, data);
  });
  return () => { stop(); viewer?.close(); };
}

/* What a job shows besides its progress: a training its curves, an evaluation its report, a propagation the way to its labels. */
async function makeDetail(root, j) {
  const none = { event() {}, ended() {} };
  if (j.kind === "propagate" && j.params?.project && j.params?.clip)
    root.append(h("p", {}, h("a", { href: `#/projects/${j.params.project}/clips/${j.params.clip}` }, "Open the clip in the editor")));
  if (j.kind === "train") {
    const curves = new Curves();
    root.append(h("section", { class: "card", "aria-label": "Curves" }, curves.element));
    get(`/v1/jobs/${j.id}/curves`).then((doc) => curves.addAll(doc.curves), () => {});
    return { ...none, event: (type, data) => type === "curve" && curves.add(data) };
  }
  if (j.kind !== "eval") return none;
  const place = h("section", { class: "card", hidden: true, "aria-label": "Report" });
  root.append(place);
  return {
    ...none,
    ended(job) {
      if (job.state !== "succeeded") return;
      get(`/v1/jobs/${job.id}/report`).then((report) => { place.hidden = false; place.replaceChildren(reportView(report)); }, (e) => toast(e.message));
    },
  };
}

function save(text, path, name) {
  const button = h("button", { type: "button" }, `Download: ${text}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try { await download(path, name); } catch (e) { toast(e.message); }
    button.disabled = false;
  });
  return button;
}

async function makeViewer(root, j) {
  const clip = await get(`/v1/clips/${j.clip_id}`);
  const canvas = h("canvas", { role: "img", "aria-label": "Frame with its saliency map" });
  const note = h("p", { class: "note", hidden: true }, "Loading");
  const playButton = h("button", { type: "button", class: "primary", "aria-keyshortcuts": "Space" }, "Play");
  const seek = h("input", { type: "range", class: "seek", min: 0, max: 0, value: 0, "aria-label": "Frame" });
  const where = h("output", { class: "mono" }, "no map yet");
  const opacity = h("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.7, id: "opacity" });
  const modes = MODES.map((m, i) => h("button", { type: "button", "aria-pressed": String(i === 0), "aria-keyshortcuts": String(i + 1), onclick: () => setMode(i) }, m));
  let total = 0;

  const player = new Player(canvas, {
    width: clip.width, height: clip.height, fps: clip.fps,
    frameUrl: (n) => `/v1/clips/${j.clip_id}/frames/${n}`,
    mapUrl: (n) => `/v1/jobs/${j.id}/maps/${n}.png`,
    onWait: (waiting) => { note.hidden = !waiting; },
    onFrame: (n) => {
      seek.value = n;
      where.textContent = `frame ${n} of ${total}`;
      playButton.textContent = player.playing ? "Pause" : "Play";
      playButton.hidden = seek.hidden = total < 2;
    },
  });
  const step = (by) => { player.pause(); player.seek(player.current + by).catch((e) => toast(e.message)); };
  const toggle = () => { if (player.playing) player.pause(); else player.play(); };
  const setMode = (i) => { player.setMode(MODES[i]); modes.forEach((b, k) => b.setAttribute("aria-pressed", String(k === i))); };
  const saveFrame = () => download(`/v1/jobs/${j.id}/maps/${player.current}.png`, `${String(player.current).padStart(5, "0")}.png`).catch((e) => toast(e.message));
  playButton.addEventListener("click", toggle);
  seek.addEventListener("input", () => { player.pause(); player.seek(Number(seek.value)).catch((e) => toast(e.message)); });
  opacity.addEventListener("input", () => player.setOpacity(Number(opacity.value)));

  const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), " ": toggle, Home: () => step(-Infinity), End: () => step(1e9) };
  function onKey(e) {
    if (isTyping(e) || (e.target instanceof HTMLButtonElement && e.key === " ")) return;
    const act = keys[e.key] || (/^[1-5]$/.test(e.key) && (() => setMode(Number(e.key) - 1)));
    if (act) { e.preventDefault(); act(); }
  }
  document.addEventListener("keydown", onKey);

  const panel = h("section", { class: "card", hidden: true, "aria-label": "Result" },
    h("div", { class: "stage" }, canvas, note),
    h("div", { class: "controls" }, seek,
      h("div", { class: "row" }, playButton,
        h("button", { type: "button", "aria-label": "Previous frame", onclick: () => step(-1) }, "◀"),
        h("button", { type: "button", "aria-label": "Next frame", onclick: () => step(1) }, "▶"),
        where, h("span", { class: "grow" }),
        h("div", { class: "seg", role: "group", "aria-label": "View" }, modes)),
      h("div", { class: "row" },
        h("label", { for: "opacity" }, "Opacity"), opacity, h("span", { class: "grow" }),
        h("button", { type: "button", onclick: saveFrame }, "Save this map")),
      h("p", { class: "dim hide-narrow" }, h("kbd", {}, "Space"), " play, ", h("kbd", {}, "←"), " ", h("kbd", {}, "→"), " step, ", h("kbd", {}, "1"), "–", h("kbd", {}, "5"), " view")));
  root.append(panel);

  return {
    available(n) {
      if (n <= 0) return;
      total = n;
      panel.hidden = false;
      seek.max = n - 1;
      player.setAvailable(n);
      where.textContent = `frame ${player.current} of ${total}`;
      playButton.hidden = seek.hidden = total < 2;
    },
    close() { document.removeEventListener("keydown", onKey); player.close(); },
  };
}
