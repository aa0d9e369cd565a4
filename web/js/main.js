/* The shell: routes by the part after '#', one view at a time. A view is `async (root, params) => cleanup function or nothing`. */

import { get } from "./api.js";
import { h, toast } from "./dom.js";
import { home } from "./views/home.js";
import { job } from "./views/job.js";
import { evaluation } from "./views/eval.js";
import { editor } from "./views/editor.js";
import { model, models } from "./views/models.js";
import { project } from "./views/project.js";
import { projects } from "./views/projects.js";
import { queue } from "./views/queue.js";

const routes = [
  { pattern: /^\/$/, view: home, nav: "Start" },
  { pattern: /^\/projects$/, view: projects, nav: "Projects", href: "/projects" },
  { pattern: /^\/projects\/([a-z0-9]+)$/, view: project },
  { pattern: /^\/projects\/([a-z0-9]+)\/clips\/([a-z0-9]+)(?:\/(\d+))?$/, view: editor },
  { pattern: /^\/models$/, view: models, nav: "Models", href: "/models" },
  { pattern: /^\/models\/([\w.-]+)$/, view: model },
  { pattern: /^\/eval$/, view: evaluation, nav: "Eval", href: "/eval" },
  { pattern: /^\/queue$/, view: queue, nav: "Queue", href: "/queue" },
  { pattern: /^\/jobs\/([a-z0-9]+)$/, view: job },
];

let cleanup = null;
let generation = 0;

async function show() {
  const path = location.hash.replace(/^#/, "") || "/";
  const mine = ++generation;
  if (cleanup) cleanup();
  cleanup = null;
  drawNav(path);
  const main = document.getElementById("main");
  main.replaceChildren();
  const route = routes.find((r) => r.pattern.test(path));
  if (!route) {
    main.append(h("h1", {}, "No such page"), h("p", {}, h("a", { href: "#/" }, "Back to the start")));
    return;
  }
  try {
    const done = await route.view(main, path.match(route.pattern).slice(1));
    if (mine === generation) cleanup = done || null;
    else if (done) done();
  } catch (e) {
    if (mine === generation) main.append(h("p", { class: "error" }, e.message));
  }
  main.focus({ preventScroll: true });
}

function drawNav(path) {
  const nav = document.getElementById("nav");
  nav.replaceChildren(...routes.filter((r) => r.nav).map((r) => {
    const a = h("a", { href: `#${r.href || "/"}` }, r.nav);
    if (r.pattern.test(path) || (r.href && path.startsWith(`${r.href}/`))) a.setAttribute("aria-current", "page");
    return a;
  }));
}

async function watchService() {
  const el = document.getElementById("service");
  try {
    const v = await get("/version");
    const ready = await fetch("/readyz").then((r) => r.ok, () => false);
    el.textContent = ready ? `v${v.version}` : "not ready: no worker";
    el.className = ready ? "service" : "service bad";
  } catch (e) {
    el.textContent = e.message;
    el.className = "service bad";
  }
  setTimeout(watchService, 10000);
}

window.addEventListener("hashchange", show);
window.addEventListener("unhandledrejection", (e) => toast(e.reason?.message || e.reason));
show();
watchService();
