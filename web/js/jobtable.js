/* A table of jobs that keeps itself fresh while it is visible. */

import { get, isFinal, post } from "./api.js";
import { formatTime, h } from "./dom.js";
import { progressText } from "./jobline.js";

export function jobTable({ limit }) {
  const body = h("tbody");
  const note = h("p", { class: "dim", role: "status" }, "Loading");
  const head = ["Job", "Kind", "State", "Progress", "Started", ""].map((t, i) => h("th", { scope: "col", class: i === 4 ? "hide-narrow" : "" }, t));
  const table = h("table", { hidden: true }, h("thead", {}, h("tr", {}, head)), body);
  let timer = 0;

  function row(j) {
    const cancel = !isFinal(j.state) && h("button", { type: "button", "aria-label": `Cancel job ${j.id}`, onclick: () => post(`/v1/jobs/${j.id}/cancel`).then(refresh) }, "Cancel");
    return h("tr", {},
      h("td", {}, h("a", { href: `#/jobs/${j.id}`, class: "mono" }, j.id.slice(-8))),
      h("td", {}, j.kind),
      h("td", {}, h("span", { class: `state ${j.state}` }, j.state)),
      h("td", {}, h("span", { class: j.error ? "error" : "" }, progressText(j))),
      h("td", { class: "hide-narrow" }, formatTime(j.started_at || j.created_at)),
      h("td", {}, cancel || ""));
  }

  async function refresh() {
    clearTimeout(timer);
    let pause = 4000;
    try {
      const { items } = await get(`/v1/jobs?limit=${limit}`);
      body.replaceChildren(...items.map(row));
      table.hidden = items.length === 0;
      note.textContent = items.length ? "" : "Nothing yet.";
      if (items.some((j) => !isFinal(j.state))) pause = 1000;
    } catch (e) {
      note.textContent = e.message;
    }
    if (timer !== null) timer = setTimeout(refresh, document.hidden ? 15000 : pause);
  }

  return {
    element: h("div", { class: "scroll" }, table, note),
    start: refresh,
    stop() { clearTimeout(timer); timer = null; },
  };
}
