/* A job in words, and as a line that follows it to its end: text, bar, cancel. */

import { follow, get, isFinal, post } from "./api.js";
import { formatSeconds, h, toast } from "./dom.js";

export const errorText = (job) => (job.error ? job.error.message || job.error.code : "");

export function progressText(job) {
  const { done = 0, total = 0, unit = "" } = job.progress || {};
  if (job.error) return errorText(job);
  if (job.state === "queued") return job.queue_position ? `Waiting, number ${job.queue_position} in the queue` : "Waiting";
  const left = job.state === "running" && job.eta_s ? `, about ${formatSeconds(job.eta_s)} left` : "";
  return `${total || done ? `${done}${total ? ` of ${total}` : ""} ${unit}` : job.state}${left}`;
}

/* Follows job to its end. onJob(job) at every change; onEvent(type, data) sees the other events. Returns a function that stops. */
export function watchJob(job, onJob, onEvent = () => {}) {
  if (isFinal(job.state)) { onJob(job); return () => {}; }
  return follow(job.id, (type, data) => {
    if (type === "progress") job = { ...job, state: "running", progress: data.progress || data, eta_s: data.eta_s ?? job.eta_s };
    else if (type === "state") job = { ...job, ...data };
    else { onEvent(type, data); return; }
    if (type === "state" && isFinal(job.state)) get(`/v1/jobs/${job.id}`).then(onJob, () => onJob(job));
    else onJob(job);
  });
}

/* name: what the job does, "Propagating". onEnd(job) once. */
export function jobLine(name, { onEnd, onEvent }) {
  const text = h("span", { role: "status" });
  const bar = h("progress", { max: 1, "aria-label": name });
  const cancel = h("button", { type: "button", "aria-label": `Cancel: ${name}` }, "Cancel");
  const element = h("div", { class: "jobline", hidden: true }, text, bar, cancel);
  let stop = () => {}, running = null;
  cancel.addEventListener("click", () => post(`/v1/jobs/${running}/cancel`).catch((e) => toast(e.message)));

  function show(job) {
    const { done = 0, total = 0 } = job.progress || {}, ended = isFinal(job.state);
    bar.hidden = cancel.hidden = ended;
    if (total) bar.value = done / total;
    else bar.removeAttribute("value");
    text.textContent = job.state === "succeeded" ? `${name}: done` : `${name}: ${ended && !job.error ? job.state : progressText(job)}`;
    text.className = job.error ? "error" : "";
    if (!ended || running === null) return;
    running = null;
    onEnd(job);
  }

  return {
    element,
    get busy() { return running !== null; },
    watch(job) {
      stop();
      running = job.id;
      element.hidden = false;
      if (!isFinal(job.state)) show(job);
      stop = watchJob(job, show, onEvent);
    },
    stop() { stop(); },
  };
}
