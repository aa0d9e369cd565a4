/* Asks which of two masks of a frame stays. Both are shown over the frame; the other one remains one undo step away. */

import { h } from "../dom.js";
import { colourLabels } from "./mask.js";

function picture(session, frame, labels, name) {
  const { width, height } = session.clip, canvas = h("canvas", { width, height, role: "img", "aria-label": name });
  const context = canvas.getContext("2d"), layer = new OffscreenCanvas(width, height), paint = layer.getContext("2d"), image = paint.createImageData(width, height);
  if (labels) colourLabels(labels, width, height, 0, 0, image);
  paint.putImageData(image, 0, 0);
  session.frames.get(frame).then((bitmap) => context.drawImage(bitmap, 0, 0), () => {}).then(() => context.drawImage(layer, 0, 0));
  return canvas;
}

/* c: as Autosave gives it. Resolves to true for mine, false for theirs, null when the question was put off (Escape). */
export function askConflict(session, c) {
  return new Promise((resolve) => {
    let answer = null;
    const choose = (value) => () => { answer = value; dialog.close(); };
    const side = (title, labels, text, value) => h("div", {}, h("h3", {}, title), picture(session, c.frame, labels, title),
      h("p", { class: "dim" }, labels ? "" : "No keyframe"), h("button", { type: "button", onclick: choose(value) }, text));
    const dialog = h("dialog", { class: "conflict", "aria-label": "Conflict" },
      h("h2", {}, `Frame ${c.frame} was changed somewhere else`),
      h("p", {}, "Another tab or person saved this frame after you opened it. Nothing is lost: choose which mask stays, Undo brings the other back."),
      h("div", { class: "sides" }, side("Mine", c.mine, "Keep mine", true), side("Theirs", c.theirs, "Take theirs", false)));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(answer); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
