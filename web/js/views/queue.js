/* For operators: every recent job. */

import { h } from "../dom.js";
import { jobTable } from "../jobtable.js";

export async function queue(root) {
  const table = jobTable({ limit: 100 });
  root.append(h("h1", {}, "Queue"), h("section", { class: "card" }, table.element));
  table.start();
  return () => table.stop();
}
