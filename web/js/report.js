/* The report of an evaluation as elements: verdict, figures with their intervals, gates, sequences, curves, worst frames. */

import { chart } from "./chart.js";
import { h } from "./dom.js";

/* What each figure is called; the order of the tables. Names as in the API. */
export const METRICS = {
  jf_mean: "J&F mean", j_mean: "J mean", j_recall: "J recall", j_decay: "J decay", f_mean: "F boundary mean", f_recall: "F recall", f_decay: "F decay",
  s_measure: "S-measure", max_f: "max F", mean_f: "mean F", adaptive_f: "adaptive F", weighted_f: "weighted F",
  max_e: "max E", mean_e: "mean E", adaptive_e: "adaptive E", mae: "MAE", temporal_stability: "Temporal stability",
};
const SHORT = ["s_measure", "max_f", "weighted_f", "mae", "j_mean", "f_mean"];

export const digits = (v) => (v === null || v === undefined ? "–" : v.toFixed(4));

/* The first column is text; the others are numbers unless `words`. */
export function table(name, head, rows, { words = false } = {}) {
  const kind = (i) => (i && !words ? "num" : "");
  return h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": name }, h("table", { "aria-label": name },
    h("thead", {}, h("tr", {}, head.map((t, i) => h("th", { scope: "col", class: kind(i) }, t)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((c, i) => h("td", { class: kind(i) }, c)))))));
}

function curves({ precision, recall, f }) {
  const at = (values) => values.map((v, i) => [i, v]).filter((p) => p[1] !== null);
  return h("div", { class: "charts" },
    chart({ title: "Precision over recall", xName: "recall", xRange: [0, 1], yRange: [0, 1], series: [{ name: "precision", points: recall.map((r, i) => [r, precision[i]]).filter((p) => p.every((v) => v !== null)) }] }),
    chart({ title: "F over threshold", xName: "threshold", xRange: [0, 255], yRange: [0, 1], series: [{ name: "F", points: at(f) }, { name: "precision", points: at(precision) }, { name: "recall", points: at(recall) }] }));
}

function gates(list) {
  const state = { pass: "succeeded", fail: "failed", noise: "queued" };
  return table("Gates", ["Gate", "Status", "Value", "Limit", ""], list.map((g) => [`${g.gate} ${METRICS[g.metric] || g.metric}`,
    h("span", { class: `state ${state[g.status] || "queued"}` }, g.status), digits(g.value), digits(g.limit), g.message]));
}

export function reportView(r) {
  const intervals = r.confidence?.intervals || {}, known = Object.keys(METRICS).filter((m) => r.overall[m] !== undefined);
  const short = SHORT.filter((m) => r.overall[m] !== undefined);
  return h("div", { class: "report" },
    h("p", { class: "row" }, r.gates?.length ? h("span", { class: `state ${r.pass ? "succeeded" : "failed"}` }, r.pass ? "pass" : "fail") : "",
      h("span", {}, `${r.frames ?? "?"} frames, protocol ${r.protocol?.name || "?"}`)),
    r.gates?.length ? h("section", {}, h("h3", {}, "Gates"), gates(r.gates)) : "",
    h("section", {}, h("h3", {}, "Overall"), table("Overall", ["Metric", "Value", "95 % interval"],
      known.map((m) => [METRICS[m], digits(r.overall[m]), intervals[m] ? `${digits(intervals[m][0])} – ${digits(intervals[m][1])}` : ""]))),
    r.curves ? curves(r.curves) : "",
    r.sequences?.length ? h("section", {}, h("h3", {}, "Sequences"), table("Sequences", ["Sequence", "Frames", ...short.map((m) => METRICS[m])],
      r.sequences.map((s) => [s.name || "(flat)", s.frames, ...short.map((m) => digits(s[m]))]))) : "",
    r.worst?.length ? h("section", {}, h("h3", {}, "Worst frames"), table("Worst frames", ["Frame", ...short.map((m) => METRICS[m])],
      r.worst.map((w) => [`${w.sequence ? `${w.sequence}/` : ""}${w.frame}`, ...short.map((m) => digits(w[m]))]))) : "",
    r.notes?.length ? h("ul", {}, r.notes.map((n) => h("li", {}, typeof n === "string" ? n : JSON.stringify(n)))) : "");
}
