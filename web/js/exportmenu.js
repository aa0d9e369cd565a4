/* The button "Export" with a menu of formats; saves the zip. */

import { download } from "./api.js";
import { h, toast } from "./dom.js";

const FORMATS = [
  { id: "davis", name: "DAVIS", help: "a palette PNG for every frame" },
  { id: "youtube-vos", name: "YouTube-VOS", help: "PNGs and meta.json" },
  { id: "coco", name: "COCO", help: "one JSON with run-length masks" },
  { id: "cvat", name: "CVAT", help: "annotations.xml of a video task" },
];

/* ready(): resolves when everything is saved. */
export function exportMenu(project, ready = async () => {}) {
  const button = h("button", { type: "button", id: "do-export", "aria-haspopup": "true", "aria-expanded": "false" }, "Export");
  const items = FORMATS.map((f) => h("button", { type: "button", id: `export-${f.id}`, "aria-label": f.name, onclick: () => save(f) }, f.name, h("span", { class: "dim" }, f.help)));
  const proposed = h("input", { type: "checkbox", id: "export-proposed" });
  const list = h("div", { class: "popup", role: "group", "aria-label": "Export format", hidden: true }, items, h("label", { class: "row" }, proposed, "Also labels not reviewed yet"));
  const menu = h("div", { class: "menu" }, button, list);

  function show(on) {
    list.hidden = !on;
    button.setAttribute("aria-expanded", String(on));
    if (on) items[0].focus();
  }
  button.addEventListener("click", () => show(list.hidden));
  menu.addEventListener("focusout", (e) => { if (e.relatedTarget && !menu.contains(e.relatedTarget)) show(false); });
  menu.addEventListener("keydown", (e) => {
    if (e.key !== "Escape") return;
    show(false);
    button.focus();
    e.stopPropagation();
  });
  const away = (e) => { if (!menu.contains(e.target)) show(false); };
  document.addEventListener("pointerdown", away);

  async function save(format) {
    show(false);
    button.disabled = true;
    try {
      await ready();
      await download(`/v1/projects/${project.id}/export?format=${format.id}&states=${proposed.checked ? "accepted,proposed" : "accepted"}`, `${project.name.replace(/[^\w.-]+/g, "_")}-${format.id}.zip`);
    } catch (e) {
      toast(e.message);
    }
    button.disabled = false;
  }

  return { element: menu, close: () => document.removeEventListener("pointerdown", away) };
}
