/* The editor's elements: bar, tools, stage, timeline, panel. What they do is given as run(id); what they show, the editor sets. */

import { h } from "../dom.js";
import { commandButton } from "./commands.js";
import { TOOLS } from "./tools.js";

const group = (name, ...children) => h("section", { class: "group", "aria-label": name }, h("h2", {}, name), ...children);

export function slider(id, name, props) {
  const input = h("input", { type: "range", id, onpointerup: () => input.blur(), ...props });
  return { input, element: h("div", { class: "slider" }, h("label", { for: id }, name), input) };
}

export function buildLayout({ project, clip, run, timeline, exporter, jobElement, maxRadius, radius }) {
  const at = {};
  const b = (id, props) => (at[id] = commandButton(id, () => run(id), props));
  at.canvas = h("canvas", { id: "canvas", role: "img", tabIndex: -1, "aria-label": "Frame: paint here" });
  at.note = h("p", { class: "note", role: "status", hidden: true });
  at.save = h("span", { id: "save-state", class: "save", role: "status", "data-state": "saved" }, "All changes saved");
  at.resolve = h("button", { type: "button", id: "do-resolve", hidden: true }, "Resolve");
  at.guide = h("p", { id: "guide", class: "guide", role: "status" });
  at.where = h("output", { id: "frame", class: "mono" });
  at.speed = h("select", { id: "speed", "aria-label": "Speed" }, [0.25, 0.5, 1, 2].map((v) => h("option", { value: v, selected: v === 1 }, `${v}×`)));
  at.size = slider("size", "Brush size", { min: 1, max: maxRadius, value: radius });
  at.opacity = slider("opacity", "Opacity", { min: 0, max: 1, step: 0.05, value: 0.6 });
  at.objects = h("div", { class: "objects", role: "group", "aria-label": "Object" });
  at.label = h("p", { id: "label", role: "status" });
  at.left = h("p", { id: "review-count" });
  at.above = h("input", { type: "number", id: "accept-above", min: 0, max: 100, step: 1, value: 80, "aria-label": "Least confidence in percent" });
  at.acceptAll = h("button", { type: "button", id: "do-accept-all" }, "Accept all above");
  at.acceptCount = h("span", { class: "dim" });

  const crumbs = h("nav", { class: "crumbs", "aria-label": "Place" },
    h("a", { href: "#/projects" }, "Projects"), " / ", h("a", { href: `#/projects/${project.id}` }, project.name), " / ", h("span", {}, clip.name || clip.id));
  const bar = h("div", { class: "ed-bar" }, crumbs, at.save, at.resolve, h("span", { class: "grow" }),
    b("propagate", { class: "primary" }), b("review", { "aria-pressed": "false" }), b("suggest"), exporter.element, b("help", { text: "?", class: "small" }));
  const tools = h("div", { class: "ed-tools", role: "toolbar", "aria-label": "Tools" },
    TOOLS.map((t) => b(`tool-${t.id}`, { "aria-pressed": "false" })), b("undo"), b("redo"), b("zoom-in", { text: "+" }), b("zoom-out", { text: "−" }), b("fit"));
  const stage = h("div", { class: "ed-stage" }, at.canvas, at.note);
  const time = h("div", { class: "ed-time" }, timeline,
    h("div", { class: "row" }, b("play", { class: "play" }), b("previous", { text: "◀", class: "small" }), b("next", { text: "▶", class: "small" }), at.where,
      h("span", { class: "grow" }), b("previous-key", { text: "◀ key", class: "small" }), b("next-key", { text: "key ▶", class: "small" }), at.speed),
    h("p", { class: "legend dim" }, "Full bars are keyframes. Others: the higher and bluer, the surer; hatched is doubtful; underlined is accepted, crossed out rejected, pale out of date."));
  const side = h("aside", { class: "ed-side", "aria-label": "Settings and review" },
    group("Objects", at.objects),
    group("Brush and view", at.size.element, at.opacity.element, h("div", { class: "pairs" }, b("toggle-mask", { "aria-pressed": "true" }), b("toggle-onion", { "aria-pressed": "false" }), b("toggle-doubt", { "aria-pressed": "false" }))),
    at.panel = group("Review", at.left, h("div", { class: "pairs" }, b("accept"), b("reject"), b("correct"), b("next-worst")),
      h("div", { class: "row bulk" }, at.acceptAll, h("span", {}, at.above, " %"), at.acceptCount)),
    group("This frame", at.label, h("div", { class: "row" }, b("nothing"), b("copy"), b("remove"))));
  at.panel.classList.add("review");
  at.element = h("div", { class: "editor" }, h("h1", { class: "unseen" }, `Annotate ${clip.name || clip.id}`), bar, h("div", { class: "ed-guide" }, at.guide, jobElement), tools, stage, time, side);
  return at;
}
