/* Every command of the editor once: its name on buttons, its keys, its line in the help sheet. What it does, the editor knows. */

import { h } from "../dom.js";
import { TOOLS } from "./tools.js";

const GROUPS = {
  Paint: [
    ...TOOLS.map((t) => ({ id: `tool-${t.id}`, name: t.name, keys: [t.key], help: t.help })),
    { id: "undo", name: "Undo", keys: ["Ctrl+z"] },
    { id: "redo", name: "Redo", keys: ["Ctrl+Shift+z", "Ctrl+y"] },
    { id: "smaller", name: "Smaller brush", keys: ["["] },
    { id: "larger", name: "Larger brush", keys: ["]"] },
    { id: "object", name: "Choose object 1 to 9", keys: ["1", "2", "3", "4", "5", "6", "7", "8", "9"], shown: "1 – 9" },
    { id: "close-polygon", name: "Close the polygon", keys: ["Enter"] },
    { id: "drop-point", name: "Remove its last point", keys: ["Backspace"] },
    { id: "escape", name: "Give up the polygon, leave the review", keys: ["Escape"] },
  ],
  View: [
    { id: "zoom-in", name: "Zoom in", keys: ["+", "="], help: "or the wheel, or two fingers" },
    { id: "zoom-out", name: "Zoom out", keys: ["-"] },
    { id: "fit", name: "Fit", keys: ["0"], help: "the whole frame" },
    { id: "toggle-onion", name: "Onion skin", keys: ["o"], help: "outlines of the neighbours" },
    { id: "toggle-doubt", name: "Doubt", keys: ["d"], help: "where the label is uncertain" },
    { id: "toggle-mask", name: "Show mask", keys: ["m"] },
    { id: "fainter", name: "Fainter mask", keys: [","] },
    { id: "stronger", name: "Stronger mask", keys: ["."] },
  ],
  Frames: [
    { id: "play", name: "Play", keys: [" "], shown: "Space", help: "hold it and drag to move the picture" },
    { id: "previous", name: "Previous frame", keys: ["ArrowLeft"], shown: "←" },
    { id: "next", name: "Next frame", keys: ["ArrowRight"], shown: "→" },
    { id: "back10", name: "Ten frames back", keys: ["Shift+ArrowLeft"], shown: "Shift ←" },
    { id: "forward10", name: "Ten frames on", keys: ["Shift+ArrowRight"], shown: "Shift →" },
    { id: "first", name: "First frame", keys: ["Home"] },
    { id: "last", name: "Last frame", keys: ["End"] },
    { id: "previous-key", name: "Previous keyframe", keys: ["j"] },
    { id: "next-key", name: "Next keyframe", keys: ["k"] },
  ],
  Labels: [
    { id: "propagate", name: "Propagate", keys: ["g"], help: "label the other frames from the keyframes" },
    { id: "suggest", name: "Suggest", keys: ["s"], help: "go to the frame whose mask would help most" },
    { id: "copy", name: "Copy from neighbour", keys: ["v"], help: "the nearest mask, to be adapted" },
    { id: "nothing", name: "Nothing here", keys: ["x"], help: "a keyframe without objects" },
    { id: "remove", name: "Remove keyframe", keys: ["Delete"] },
  ],
  Review: [
    { id: "review", name: "Review", keys: ["w"], help: "worst first" },
    { id: "accept", name: "Accept", keys: ["a"] },
    { id: "reject", name: "Reject", keys: ["r"] },
    { id: "correct", name: "Correct", keys: ["c"], help: "paint; the frame becomes a keyframe" },
    { id: "next-worst", name: "Next worst", keys: ["n"] },
  ],
  Help: [{ id: "help", name: "Help", keys: ["?"] }],
};

export const COMMANDS = Object.values(GROUPS).flat();
const byId = new Map(COMMANDS.map((c) => [c.id, c]));
const byKey = new Map(COMMANDS.flatMap((c) => c.keys.map((k) => [k, c])));

function keyOf(e) {
  const key = e.key.length === 1 ? e.key.toLowerCase() : e.key;
  const shift = e.shiftKey && (e.ctrlKey || e.metaKey || key.length > 1) ? "Shift+" : "";
  return (e.ctrlKey || e.metaKey ? "Ctrl+" : "") + shift + key;
}

/* The command of a keyboard event, or nothing where a control needs the key itself. */
export function commandOf(e) {
  const command = e.altKey ? null : byKey.get(keyOf(e));
  return command && !document.querySelector("dialog[open]") && !ownsKey(e.target, e) ? command : null;
}

function ownsKey(t, e) {
  if (t instanceof HTMLTextAreaElement || t instanceof HTMLSelectElement) return true;
  if (t instanceof HTMLInputElement && t.type !== "range" && t.type !== "checkbox") return true;
  if (t.type === "range") return /^(Arrow|Home|End|Page)/.test(e.key);
  return (e.key === " " || e.key === "Enter") && (t.type === "checkbox" || t instanceof HTMLButtonElement || t instanceof HTMLAnchorElement || t.tagName === "SUMMARY");
}

const shown = (c) => c.shown || c.keys[0].replace("Ctrl+", "Ctrl ").replace("Shift+", "Shift ").replace(/(^| )([a-z])$/, (_, s, k) => s + k.toUpperCase());

/* A button of a command: its name is its text, its key stands beside it (by style sheet, not in the name). */
export function commandButton(id, run, props = {}) {
  const c = byId.get(id);
  const { text = c.name, ...rest } = props;
  return h("button", {
    type: "button", id: `do-${id}`, "aria-label": c.name, title: `${c.name} (${shown(c)})${c.help ? `: ${c.help}` : ""}`,
    "aria-keyshortcuts": c.keys.map((k) => (k === " " ? "Space" : k.replace("Ctrl", "Control"))).join(" "), "data-key": shown(c), ...rest,
    onclick: (e) => { if (e.detail) e.currentTarget.blur(); run(); }, /* after the mouse, the space bar is the editor's again */
  }, text);
}

export function helpSheet() {
  const sheet = h("dialog", { class: "help", "aria-label": "Help", closedby: "any" },
    h("div", { class: "row" }, h("h2", { class: "grow" }, "How it works"), h("button", { type: "button", onclick: () => sheet.close() }, "Close")),
    h("ol", {},
      h("li", {}, "Paint the object on a few frames. Each painted frame is a keyframe, saved with every stroke."),
      h("li", {}, "Propagate: every other frame gets a label, with a confidence."),
      h("li", {}, "Review worst first: accept, reject, or correct by painting. Then propagate again, or export.")),
    h("div", { class: "columns" }, Object.entries(GROUPS).map(([group, commands]) => h("section", {}, h("h3", {}, group),
      h("dl", {}, commands.flatMap((c) => [h("dt", {}, h("kbd", {}, shown(c))), h("dd", {}, c.name, c.help ? h("span", { class: "dim" }, ` ${c.help}`) : "")]))))));
  return sheet;
}
