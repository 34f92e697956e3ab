// The snapshots of the last 15 minutes, and the requests to the service that bring them.

import { between, growth, keyOf, pointOf, sum, sumOfCounts, wasReset } from "./model.js";

const keptSeconds = 15 * 60;

export class Store {
  constructor() {
    this.points = [];
    this.tables = []; // [{time, requests}]: what the tables of routes are computed from
    this.sections = []; // snapshots since the page is open, for what the history does not have
    this.trends = new Map(); // route -> [[time, requests since the start]]
    this.latest = null;
    this.error = null;
  }

  /** Take the points that the service kept. They replace older ones, and fill the gaps between newer ones. */
  addHistory(history) {
    this.points = merged(history.points, this.points);
    this.tables = merged(history.tables, this.tables);
    const times = history.points.map((point) => point.time);
    for (const row of history.routes) {
      const known = row.counts.map((value, at) => [times[at], value]).filter(([, value]) => value != null);
      this.trends.set(keyOf(row), known);
    }
  }

  /** Take a snapshot. Return whether it is a new one. */
  addSnapshot(snapshot) {
    if (this.latest && snapshot.time === this.latest.time) return false;
    if (this.latest && snapshot.time < this.latest.time) this.#forget(snapshot.time);
    this.latest = snapshot;
    const { time, requests } = snapshot;
    this.points = merged(this.points, [pointOf(snapshot)]);
    this.tables = merged(this.tables, [{ time, requests }]);
    this.sections.push(snapshot);
    const oldest = time - keptSeconds;
    this.points = this.points.filter((point) => point.time >= oldest);
    for (const kept of [this.tables, this.sections]) {
      while (kept.length > 2 && kept[1].time < oldest) kept.shift();
    }
    return true;
  }

  /** Forget what was later than a time: the clock of the service was set back. */
  #forget(time) {
    for (const name of ["points", "tables", "sections"]) this[name] = this[name].filter((each) => each.time < time);
  }

  /** Return what happened between each two points, the oldest first. */
  steps() {
    return this.points.slice(1).map((point, at) => between(this.points[at], point));
  }

  /** Return when the counters last began again at zero, or null. */
  resetAt() {
    const at = this.points.findLastIndex((point, index) => index > 0 && wasReset(this.points[index - 1], point));
    return at > 0 ? this.points[at].time : null;
  }

  /** Return what happened in the last seconds, or as much of it as is known. Null if nothing can be compared. */
  window(seconds) {
    const last = this.points.at(-1);
    if (!last || this.points.length < 2) return null;
    const from = this.points.findLastIndex((point) => point.time <= last.time - seconds);
    const points = this.points.slice(Math.max(from, 0));
    return points.length < 2 ? null : accumulated(points);
  }

  /** Return the table of routes with which a window begins, or null: since the service started. */
  tableBefore(seconds) {
    return earlier(this.tables, this.latest.time, seconds);
  }

  /** Return the snapshot with which a window begins, or null: since the service started. */
  snapshotBefore(seconds) {
    return earlier(this.sections, this.latest.time, seconds);
  }

  /** Return the requests per second of a route over time, for its small line: [[time, rate]]. */
  rates(key) {
    const counts = new Map(this.trends.get(key) ?? []);
    for (const { time, requests } of this.tables) {
      const row = requests.routes.find((each) => keyOf(each) === key);
      if (row) counts.set(time, sum(row.counts));
    }
    const oldest = this.latest.time - keptSeconds;
    const known = [...counts].filter(([time]) => time >= oldest).sort((one, other) => one[0] - other[0]);
    return known.slice(1).map(([time, value], at) => {
      const [before, former] = known[at];
      return [time, growth(value, former) / Math.max(time - before, 1e-3)];
    });
  }
}

/** Return two lists in the order of their times. Of two with the same time, that of the second list stays. */
function merged(one, other) {
  const byTime = new Map([...one, ...other].map((each) => [each.time, each]));
  return [...byTime.values()].sort((first, second) => first.time - second.time);
}

function earlier(kept, time, seconds) {
  const found = kept.findLast((each) => each.time <= time - seconds) ?? kept[0];
  return found && found.time < time ? found : null;
}

/** Add up the steps between points, so that a counter that was reset in the middle is counted right. */
function accumulated(points) {
  const steps = points.slice(1).map((point, at) => between(points[at], point));
  const elapsed = points.at(-1).time - points[0].time;
  const requests = sum(steps.map((step) => step.requests));
  const failed = sum(steps.map((step) => (step.errors ?? 0) * step.requests));
  const busy = steps.filter((step) => step.utilisation != null);
  const busySeconds = sum(busy.map((step) => step.elapsed));
  return {
    elapsed,
    requests,
    rate: requests / elapsed,
    errors: requests ? failed / requests : null,
    counts: sumOfCounts(steps, "counts"),
    utilisation: busySeconds ? sum(busy.map((step) => step.utilisation * step.elapsed)) / busySeconds : null,
    queueCounts: sumOfCounts(steps, "queueCounts"),
    loopCounts: sumOfCounts(steps, "loopCounts"),
  };
}

/** Return the address of a document. fetch() refuses an address with the password that the page's own may have. */
function addressOf(name) {
  const address = new URL(name, document.baseURI);
  address.username = "";
  address.password = "";
  return address;
}

/**
 * Read a document of the service.
 *
 * @throws {Error} With a sentence for the reader.
 */
export async function read(name, timeout = 10_000) {
  let response;
  try {
    response = await fetch(addressOf(name), { cache: "no-store", signal: AbortSignal.timeout(timeout) });
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
  try {
    return await response.json();
  } catch {
    throw new Error("The answer of the service is no snapshot. Something between this page and the service may answer in its place.");
  }
}
