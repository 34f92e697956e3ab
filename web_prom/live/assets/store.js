// The snapshots of the last 15 minutes, and the requests to the service that bring them.

import { between, pointOf } from "./model.js";

const keepSeconds = 15 * 60;

export class Store {
  constructor() {
    this.points = [];
    this.routes = []; // [{time, requests}]: what the tables of routes are computed from
    this.latest = null;
    this.error = null;
  }

  /** Take the points that the service kept before this page was open. */
  addHistory(history) {
    this.points = [...history.points];
    if (history.earlier) this.routes.push(history.earlier);
    this.routeRates = new Map(history.routes.map((row) => [`${row.method} ${row.route}`, row.counts]));
    this.historyTimes = history.points.map((point) => point.time);
  }

  addSnapshot(snapshot) {
    if (this.latest && snapshot.time <= this.latest.time) return;
    this.latest = snapshot;
    this.points.push(pointOf(snapshot));
    this.routes.push({ time: snapshot.time, requests: snapshot.requests });
    const oldest = snapshot.time - keepSeconds;
    this.points = this.points.filter((point) => point.time >= oldest);
    while (this.routes.length > 2 && this.routes[1].time < oldest) this.routes.shift();
  }

  /** Return what happened between each two points, the oldest first. */
  steps() {
    return this.points.slice(1).map((point, at) => between(this.points[at], point));
  }

  /** Return what happened in the last seconds, or as much of it as is known. Null if nothing can be compared. */
  window(seconds) {
    const last = this.points.at(-1);
    if (!last || this.points.length < 2) return null;
    const from = this.points.findLast((point) => point.time <= last.time - seconds) ?? this.points[0];
    return from === last ? null : accumulate(this.points.slice(this.points.indexOf(from)));
  }

  /** Return the requests section with which the window of a table begins, or null: since the service started. */
  routesBefore(seconds) {
    const wanted = this.latest.time - seconds;
    const found = this.routes.findLast((each) => each.time <= wanted) ?? this.routes[0];
    return found && found.time < this.latest.time ? found : null;
  }

  /** Return the rate of a route over time, for its small line. */
  rates(key) {
    const counts = new Map();
    (this.routeRates?.get(key) ?? []).forEach((value, at) => counts.set(this.historyTimes[at], value));
    for (const { time, requests } of this.routes) {
      const row = requests.routes.find((each) => `${each.method} ${each.route}` === key);
      if (row) counts.set(time, Object.values(row.statuses).reduce((all, value) => all + value, 0));
    }
    const known = [...counts].sort((one, other) => one[0] - other[0]);
    return known.slice(1).map(([time, value], at) => {
      const [earlier, before] = known[at];
      return (value >= before ? value - before : value) / Math.max(time - earlier, 1e-3);
    });
  }
}

/** Add up the steps between points, so that a counter that was reset in the middle is counted right. */
function accumulate(points) {
  const steps = points.slice(1).map((point, at) => between(points[at], point));
  const first = steps[0];
  const elapsed = points.at(-1).time - points[0].time;
  const all = { elapsed, requests: 0, failed: 0, counts: first.counts.map(() => 0), busy: 0, queued: [] };
  for (const step of steps) {
    all.requests += step.requests;
    all.failed += (step.errors ?? 0) * step.requests;
    step.counts.forEach((value, at) => (all.counts[at] += value));
    if (step.utilisation != null) all.busy += step.utilisation * step.elapsed;
    if (step.queueMean != null) all.queued.push(step.queueMean);
  }
  return {
    elapsed,
    rate: all.requests / elapsed,
    requests: all.requests,
    errors: all.requests ? all.failed / all.requests : null,
    counts: all.counts,
    utilisation: steps.some((step) => step.utilisation != null) ? all.busy / elapsed : null,
    queueMean: all.queued.length ? all.queued.reduce((one, other) => one + other, 0) / all.queued.length : null,
  };
}

/**
 * Read a document of the service.
 *
 * @throws {Error} With a sentence for the reader.
 */
export async function read(name, timeout = 10_000) {
  let response;
  try {
    response = await fetch(name, { cache: "no-store", signal: AbortSignal.timeout(timeout) });
  } catch (error) {
    const slow = error.name === "TimeoutError";
    throw new Error(slow ? `The service gave no answer in ${timeout / 1000} s.` : "The service cannot be reached.");
  }
  if (response.status === 401 || response.status === 403) {
    throw new Error("The service no longer allows this page to read its numbers. Open the page again with its token or password.");
  }
  if (!response.ok) {
    const reason = (await response.text()).trim().slice(0, 300);
    throw new Error(`The service answered with status ${response.status}.${reason ? ` It says: ${reason}` : ""}`);
  }
  return response.json();
}
