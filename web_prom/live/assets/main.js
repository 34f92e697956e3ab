// The page: it polls while somebody looks, and shows one view at a time.

import { ChecksView, InsideView, MetricsView, RouteView, WorkersView } from "./details.js";
import { Overview } from "./overview.js";
import { Store, read } from "./store.js";
import { age, count, duration, make } from "./text.js";

const sections = [
  ["", "Overview", Overview],
  ["workers", "Workers", WorkersView],
  ["inside", "Inside requests", InsideView],
  ["metrics", "Own metrics", MetricsView],
  ["setup", "Set-up", ChecksView],
];
const store = new Store();
const element = (id) => document.getElementById(id);
const links = sections.map(([path, name]) => make("a", { href: `#/${path}` }, name));
const problem = make("p.error", { role: "alert", hidden: true });
let view = null;
let shownPath = null;
let paused = false;
let interval = 5;
let timer = null;
let worst = "ok";

element("sections").append(...links);

function path() {
  return location.hash.replace(/^#\/?/, "");
}

/** Show the view that the address names, with the numbers of the latest snapshot. */
function show() {
  if (!store.latest) return;
  if (shownPath !== path()) {
    const first = shownPath === null;
    shownPath = path();
    const found = sections.find(([each]) => each === shownPath);
    view = shownPath.startsWith("route/")
      ? new RouteView(store, decodeURIComponent(shownPath.slice("route/".length)))
      : new (found ?? sections[0])[2](store);
    links.forEach((link, at) => {
      const isCurrent = shownPath.startsWith("route/") ? at === 0 : sections[at][0] === shownPath;
      if (isCurrent) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    element("content").replaceChildren(problem, view.element);
    if (!first) {
      scrollTo(0, 0);
      element("content").focus({ preventScroll: true });
    }
  }
  view.update(Number(element("window").value));
}

function showState() {
  const { latest } = store;
  const since = latest ? Date.now() / 1000 - latest.received : null;
  document.body.dataset.state = store.error ? "lost" : "live";
  document.body.dataset.worst = worst;
  let text = "";
  if (latest) text = paused ? `paused, ${age(since)} old` : store.error ? `no answer for ${age(since)}` : since < 1.5 * interval + 1 ? "live" : `${age(since)} old`;
  if (element("state").textContent !== text) element("state").textContent = text;
  problem.hidden = !store.error;
  problem.textContent = store.error ? `${store.error}${latest ? " The numbers below are the last ones." : ""} The page tries again every ${interval} s.` : "";
}

async function poll() {
  clearTimeout(timer);
  timer = null;
  if (paused || document.hidden) return;
  try {
    const snapshot = await read("snapshot.json");
    if (snapshot.version !== 1) throw new Error(`The service speaks version ${snapshot.version} of the snapshot; this page knows version 1. Load the page again.`);
    snapshot.received = Date.now() / 1000;
    store.error = null;
    interval = snapshot.interval_seconds;
    store.addSnapshot(snapshot);
    worst = snapshot.verdicts[0]?.severity ?? "ok";
    element("title").textContent = snapshot.title;
    document.title = `${worst === "ok" || worst === "info" ? "" : "! "}${snapshot.title} – web-prom`;
    const { cost } = snapshot;
    element("cost").textContent = `This snapshot took ${duration(cost.snapshot_seconds)} for ${count(cost.series)} series. web-prom ${snapshot.web_prom}. Percentiles are estimates from the buckets of histograms.`;
    show();
  } catch (error) {
    store.error = error.message;
    if (!store.latest) element("content").replaceChildren(problem);
  }
  showState();
  schedule();
}

function schedule() {
  if (timer === null && !paused && !document.hidden) timer = setTimeout(poll, interval * 1000);
}

element("pause").addEventListener("click", () => {
  paused = !paused;
  element("pause").setAttribute("aria-pressed", String(paused));
  element("pause").textContent = paused ? "Resume" : "Pause";
  showState();
  if (!paused) poll();
});
element("window").addEventListener("change", show);
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : poll()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.redraw());
setInterval(showState, 1000);

try {
  store.addHistory(await read("history.json"));
} catch {
  // The page opens without a past. The first snapshot tells what is wrong, if it still is.
}
await poll();
