// The page: it polls while it is visible, and shows one view at a time.

import { InsideView } from "./inside_view.js";
import { MetricsView } from "./metrics_view.js";
import { Overview } from "./overview.js";
import { RouteView } from "./route_view.js";
import { SetupView } from "./setup_view.js";
import { Store, read } from "./store.js";
import { age, clock, count, duration, make, setText } from "./text.js";
import { WorkersView } from "./workers_view.js";

const sections = [
  ["", "Overview", Overview],
  ["workers", "Workers", WorkersView],
  ["inside", "Inside requests", InsideView],
  ["metrics", "Own metrics", MetricsView],
  ["setup", "Set-up", SetupView],
];
const routePrefix = "route/";
const version = 1;
const store = new Store();
const element = (id) => document.getElementById(id);
const links = sections.map(([path, name]) => make("a", { href: `#/${path}` }, name));
const problem = make("p.error", { role: "alert", hidden: true });
const notice = make("p.notice", { role: "status", hidden: true });
let view = null;
let shown = null; // {path, place}
let paused = false;
let interval = 5;
let timer = null;
let polling = false;
let firstVersion = null;

element("sections").append(...links);

/** Return the view that the address names, and the place in it: "#/workers@memory". */
function address() {
  const [path, place = ""] = location.hash.replace(/^#\/?/, "").split("@");
  return { path, place };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Show the view that the address names, with the numbers of the latest snapshot. */
function show() {
  if (!store.latest) return;
  const { path, place } = address();
  const isOther = shown?.path !== path;
  const isFirst = shown === null;
  if (isOther) {
    const isRoute = path.startsWith(routePrefix);
    const found = sections.find(([each]) => each === path) ?? sections[0];
    view?.close();
    view = isRoute ? new RouteView(store, decoded(path.slice(routePrefix.length))) : new found[2](store);
    links.forEach((link, at) => {
      if (isRoute ? at === 0 : sections[at] === found) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    element("content").replaceChildren(problem, notice, view.element);
  }
  view.update(Number(element("window").value));
  const moves = shown?.place !== place || isOther;
  shown = { path, place };
  if (!moves || (isFirst && !place)) return;
  const target = place && document.getElementById(place);
  if (target) {
    target.scrollIntoView({ block: "start" });
    target.focus({ preventScroll: true });
  } else if (isOther) {
    scrollTo(0, 0);
    element("content").focus({ preventScroll: true });
  }
}

function stateText() {
  const { latest } = store;
  if (!latest) return "";
  const since = Date.now() / 1000 - latest.received;
  if (paused) return `paused, ${age(since)} old`;
  if (store.error) return `no answer for ${age(since)}`;
  return since < 2 * interval + 2 ? "live" : `${age(since)} old`;
}

function showState() {
  const { latest, error } = store;
  const worst = latest?.verdicts[0]?.severity ?? "ok";
  document.body.dataset.state = error ? "lost" : paused ? "paused" : "live";
  document.body.dataset.worst = worst;
  setText(element("state"), stateText());
  problem.hidden = !error;
  const rest = latest ? ` The numbers below are those of ${clock(latest.time)}.` : "";
  setText(problem, error ? `${error}${rest} The page tries again every ${age(interval)}.` : "");
  const resetAt = latest && store.resetAt();
  const news = [];
  if (latest && latest.web_prom !== firstVersion) news.push(`The service now runs web-prom ${latest.web_prom}. Load this page again to get its page.`);
  if (resetAt) news.push(`The service started again at ${clock(resetAt)}: its counters began at zero there.`);
  notice.hidden = !news.length;
  setText(notice, news.join(" "));
  if (latest) {
    const mark = { critical: "(critical) ", warning: "(warning) " }[worst] ?? "";
    document.title = `${mark}${latest.title} – web-prom`;
  }
}

function showCost({ cost, web_prom: release }) {
  setText(
    element("cost"),
    `This snapshot took ${duration(cost.snapshot_seconds)} for ${count(cost.series)} series; all who look share it. web-prom ${release}. Percentiles are estimates from the buckets of histograms.`,
  );
}

/** Read a snapshot and show it. Only one reader is active at a time. */
async function poll() {
  clearTimeout(timer);
  timer = null;
  if (polling || paused || document.hidden) return;
  polling = true;
  try {
    await readAll();
    store.error = null;
    show();
  } catch (error) {
    store.error = error.message;
    if (!store.latest) element("content").replaceChildren(problem);
  } finally {
    polling = false;
  }
  showState();
  schedule();
}

async function readAll() {
  const { latest } = store;
  if (!latest || Date.now() / 1000 - latest.received > 3 * interval) await readHistory();
  const snapshot = await read("snapshot.json");
  if (snapshot.version !== version) {
    throw new Error(`The service speaks version ${snapshot.version} of the snapshot, and this page speaks version ${version}. Load the page again.`);
  }
  snapshot.received = Date.now() / 1000;
  interval = snapshot.interval_seconds;
  firstVersion ??= snapshot.web_prom;
  if (store.addSnapshot(snapshot)) {
    setText(element("title"), snapshot.title);
    showCost(snapshot);
  }
}

/** Read what the service kept: when the page opens, and after it did not look for a while. */
async function readHistory() {
  try {
    const history = await read("history.json");
    if (history.version === version) store.addHistory(history);
  } catch {
    // The page works without a past. The snapshot that follows tells what is wrong, if it still is.
  }
}

function schedule() {
  if (timer === null && !paused && !document.hidden) timer = setTimeout(poll, interval * 1000);
}

element("pause").addEventListener("click", () => {
  paused = !paused;
  element("pause").setAttribute("aria-pressed", String(paused));
  showState();
  poll();
});
element("window").addEventListener("change", show);
addEventListener("hashchange", show);
addEventListener("click", (event) => {
  const link = event.target.closest?.("a");
  if (link?.matches(".skip")) {
    event.preventDefault();
    element("content").focus();
  } else if (link?.hash && link.hash === location.hash && shown) {
    shown.place = null; // The same place again: the reader may have scrolled away from it.
    show();
  }
});
document.addEventListener("visibilitychange", poll);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.redraw());
setInterval(showState, 1000);
await poll();
