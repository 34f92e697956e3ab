// The other views: one route, workers, what happens inside requests, the service's own metrics, and the set-up.

import { TimeChart } from "./charts.js";
import { growth, keyOf, pointOf, quantile, routeTable, between, sum } from "./model.js";
import { Table } from "./table.js";
import { age, bytes, clock, count, duration, make, percent, rate } from "./text.js";

function card(title, ...children) {
  return make("section.card.wide", { "aria-label": title }, make("h2", {}, title), ...children);
}

function figures(...all) {
  return make("dl.figures", {}, ...all.map(([name, value, note]) => make("div.figure", {}, make("dt", {}, name), make("dd", {}, value, note ? make("span.of", {}, note) : null))));
}

/** One route: its figures, its charts since the page is open, its statuses and exceptions. */
export class RouteView {
  constructor(store, key) {
    this.store = store;
    this.key = key;
    const [method, ...rest] = key.split(" ");
    this.heading = make("h2", {}, make("span.method", {}, method), rest.join(" "));
    this.figures = make("div");
    const bounds = () => store.latest.requests.buckets;
    this.charts = [
      new TimeChart(
        "Requests per second",
        [
          { name: "5xx server error", colour: "s5xx", value: (step) => step.perSecond["5xx"] ?? 0 },
          { name: "all others", colour: "s2xx", value: (step) => step.rate - (step.perSecond["5xx"] ?? 0) },
        ],
        { format: rate, stacked: true, say: (steps) => (steps.length ? `${rate(steps.at(-1).rate)} per second now.` : "Waiting for a second snapshot.") },
      ),
      new TimeChart(
        "Duration",
        [
          { name: "p95", colour: "p95", value: (step) => quantile(bounds(), step.counts, 0.95) },
          { name: "p50", colour: "p50", value: (step) => quantile(bounds(), step.counts, 0.5), dash: [2, 3] },
        ],
        { format: duration, note: "estimates from buckets", say: (steps) => (steps.length ? `95 % took less than ${duration(quantile(bounds(), steps.at(-1).counts, 0.95))} now.` : "Waiting for a second snapshot.") },
      ),
    ];
    this.statuses = new Table("Statuses", [
      { name: "Status", value: (row) => row[0] },
      { name: "Requests", kind: "number", value: (row) => row[1], show: (row) => count(row[1]) },
    ], { sortBy: 1, empty: "No request in this window." });
    this.exceptions = new Table("Exceptions", [
      { name: "Exception", value: (row) => row[0], show: (row) => make("code", {}, row[0]) },
      { name: "Count", kind: "number", value: (row) => row[1], show: (row) => count(row[1]) },
    ], { sortBy: 1, empty: "No exception in this window." });
    this.element = make(
      "div",
      {},
      make("a.back", { href: "#/" }, "All routes"),
      this.heading,
      this.figures,
      make("div.cards", {}, ...this.charts.map((chart) => chart.element), make("section.card", { "aria-label": "Statuses" }, make("h2", {}, "Statuses"), this.statuses.element), make("section.card", { "aria-label": "Exceptions" }, make("h2", {}, "Exceptions"), this.exceptions.element)),
    );
  }

  update(windowSeconds) {
    const { store } = this;
    const points = store.routes.map(({ time, requests }) => {
      const row = requests.routes.find((each) => keyOf(each) === this.key);
      return pointOf({ time, workers: [], queue_time: null, requests: { ...requests, routes: row ? [row] : [] } });
    });
    const steps = points.slice(1).map((point, at) => between(points[at], point));
    for (const chart of this.charts) chart.update(steps);
    const before = store.routesBefore(windowSeconds);
    const elapsed = before ? store.latest.time - before.time : 0;
    const row = routeTable(store.latest.requests, before?.requests ?? null, elapsed).find((each) => each.key === this.key);
    if (!row) {
      this.figures.replaceChildren(make("p.empty", {}, "No request of this route in the window."));
      this.statuses.update([]);
      this.exceptions.update([]);
      return;
    }
    const queries = row.queries == null ? [] : [
      ["Queries per request", rate(row.queries), `${rate(row.repeated)} of them repeated`],
      ["Time in the database", percent(row.database), "of the request's time"],
    ];
    this.figures.replaceChildren(
      figures(
        ["Requests per second", rate(row.rate), elapsed ? `the last ${age(elapsed)}` : "since the service started"],
        ["Server errors", percent(row.errors), "of requests"],
        ["Mean", duration(row.mean)],
        ["p50", duration(row.p50), "estimate from buckets"],
        ["p95", duration(row.p95), "estimate from buckets"],
        ["p99", duration(row.p99), "estimate from buckets"],
        ["Share of time", percent(row.share), "of all requests"],
        ...queries,
      ),
    );
    this.statuses.update(Object.entries(row.statuses).filter(([, value]) => value > 0));
    this.exceptions.update(Object.entries(row.exceptions).filter(([, value]) => value > 0));
  }

  redraw() {
    for (const chart of this.charts) chart.draw();
  }
}

/** Workers: what each costs, and the sockets that requests wait at. */
export class WorkersView {
  constructor(store) {
    this.store = store;
    this.seen = new Map(); // worker -> {start, restarts}
    this.workers = new Table("Workers", [
      { name: "Worker", value: (row) => row.worker, show: (row) => row.worker || "this process" },
      { name: "Processor", kind: "number", value: (row) => row.cpu, show: (row) => percent(row.cpu), title: "Of one core" },
      { name: "Memory", kind: "number", value: (row) => row.resident_bytes, show: (row) => bytes(row.resident_bytes) },
      { name: "Open files", kind: "number", value: (row) => row.open_fds, show: (row) => count(row.open_fds) },
      { name: "Capacity", kind: "number", value: (row) => row.capacity, show: (row) => count(row.capacity), title: "Requests that it serves at once" },
      { name: "Age", kind: "number", value: (row) => row.age, show: (row) => age(row.age) },
      { name: "Restarts", kind: "number", value: (row) => row.restarts, title: "Since this page is open" },
    ], { sortBy: 0, descending: false, empty: "The system shows no process." });
    this.listeners = new Table("Sockets", [
      { name: "Address", value: (row) => row.listener, show: (row) => make("code", {}, row.listener) },
      { name: "Waiting", kind: "number", value: (row) => row.waiting, show: (row) => count(row.waiting) },
      { name: "Limit", kind: "number", value: (row) => row.limit, show: (row) => count(row.limit) },
    ], { sortBy: 1, empty: "The system shows no listening socket of the service." });
    this.refused = make("p.finding");
    this.element = make("div.cards", {}, card("Workers", this.workers.element), card("Connections that wait for a worker", this.refused, this.listeners.element));
  }

  update() {
    const { latest } = this.store;
    const rows = latest.workers.map((worker) => {
      const known = this.seen.get(worker.worker) ?? { start: worker.start_time, restarts: 0 };
      if (worker.start_time != null && known.start != null && worker.start_time > known.start + 0.5) known.restarts += 1;
      const elapsed = known.time ? latest.time - known.time : 0;
      const cpu = elapsed > 0 && worker.cpu_seconds != null ? growth(worker.cpu_seconds, known.cpu ?? 0) / elapsed : known.rate;
      this.seen.set(worker.worker, { start: worker.start_time, restarts: known.restarts, time: latest.time, cpu: worker.cpu_seconds, rate: cpu });
      return { ...worker, cpu, restarts: known.restarts, age: worker.start_time == null ? null : latest.time - worker.start_time };
    });
    this.workers.update(rows);
    this.listeners.update(latest.server.listeners);
    const refused = latest.server.listen_overflows;
    this.refused.textContent = refused == null ? "" : `The kernel refused ${count(refused)} connections since it counts, because a queue was full.`;
  }

  redraw() {}
}

/** Databases, pools, caches and outgoing calls, where they are measured. */
export class InsideView {
  constructor(store) {
    this.store = store;
    this.element = make("div.cards");
    const seconds = { name: "Mean", kind: "number", value: (row) => (row.count ? row.seconds / row.count : null), show: (row) => duration(row.count ? row.seconds / row.count : null) };
    const times = { name: "Count", kind: "number", value: (row) => row.count, show: (row) => count(row.count) };
    this.tables = {
      databases: ["Database operations", new Table("Database operations", [
        { name: "Database", value: (row) => `${row.system} ${row.namespace}` },
        { name: "Operation", value: (row) => row.operation },
        { name: "Error", value: (row) => row.error },
        times,
        seconds,
        { name: "Total time", kind: "number", value: (row) => row.seconds, show: (row) => duration(row.seconds) },
      ], { sortBy: 5, limit: 25 })],
      pools: ["Connection pools", new Table("Connection pools", [
        { name: "Pool", value: (row) => row.pool },
        { name: "Used", kind: "number", value: (row) => row.used, show: (row) => count(row.used) },
        { name: "Idle", kind: "number", value: (row) => row.idle, show: (row) => count(row.idle) },
        { name: "Most", kind: "number", value: (row) => row.max, show: (row) => count(row.max) },
        { name: "Waiting", kind: "number", value: (row) => row.pending, show: (row) => count(row.pending) },
        { name: "Timeouts", kind: "number", value: (row) => row.timeouts, show: (row) => count(row.timeouts) },
      ])],
      caches: ["Caches", new Table("Caches", [
        { name: "Cache", value: (row) => row.cache },
        { name: "Operation", value: (row) => row.operation },
        { name: "Hits", kind: "number", value: (row) => hitRatio(row), show: (row) => percent(hitRatio(row)) },
        { name: "Errors", kind: "number", value: (row) => row.results.error ?? 0, show: (row) => count(row.results.error ?? 0) },
        times,
        seconds,
      ], { sortBy: 4, limit: 25 })],
      calls: ["Outgoing calls", new Table("Outgoing calls", [
        { name: "Address", value: (row) => row.address },
        { name: "Method", value: (row) => row.method },
        { name: "Status", value: (row) => row.status },
        { name: "Error", value: (row) => row.error },
        times,
        seconds,
      ], { sortBy: 4, limit: 25 })],
    };
  }

  update() {
    const cards = [];
    for (const [name, [title, table]] of Object.entries(this.tables)) {
      const rows = this.store.latest[name];
      if (rows.length) {
        table.update(rows);
        cards.push([name, title, table]);
      }
    }
    const shown = cards.map(([name]) => name).join();
    if (shown === this.shown) return;
    this.shown = shown;
    this.element.replaceChildren(
      ...(cards.length
        ? cards.map(([, title, table]) => card(title, make("p.finding", {}, "Since the service started."), table.element))
        : [make("p.empty", {}, "No database, cache or outgoing call is measured. Set PROM_DATABASE, PROM_CACHE or PROM_HTTP_CLIENT to see them here.")]),
    );
  }

  redraw() {}
}

function hitRatio(row) {
  const { hit = 0, miss = 0 } = row.results;
  return hit + miss ? hit / (hit + miss) : null;
}

/** The service's own metrics: a chart or a table for each family, by its type. */
export class MetricsView {
  constructor(store) {
    this.store = store;
    this.cards = new Map();
    this.past = [];
    this.list = make("div.cards");
    this.empty = make("p.empty", {}, "The service has no metrics of its own. Counters, gauges and histograms of prometheus_client appear here.");
    this.element = make("div", {}, this.list);
  }

  update() {
    const { latest } = this.store;
    if (this.past.at(-1)?.time !== latest.time) this.past.push({ time: latest.time, own: new Map(latest.own.map((family) => [family.name, family])) });
    this.past = this.past.filter((each) => each.time >= latest.time - 900);
    for (const family of latest.own) {
      if (!this.cards.has(family.name)) this.cards.set(family.name, this.#card(family));
      this.cards.get(family.name).update();
    }
    if (!this.list.childElementCount || this.shown !== this.cards.size) {
      this.shown = this.cards.size;
      this.list.replaceChildren(...(this.cards.size ? [...this.cards.values()].map((each) => each.element) : [this.empty]));
    }
  }

  redraw() {
    for (const each of this.cards.values()) each.chart?.draw();
  }

  #card(family) {
    const { name, type } = family;
    const colours = ["line-a", "line-b", "s2xx", "s5xx", "s3xx", "other"];
    const shown = family.series.slice(0, colours.length);
    const isGauge = type === "gauge" || type === "unknown";
    const series = shown.map((each, at) => ({
      name: each.labels.join(", ") || (isGauge ? "value" : "per second"),
      colour: colours[at],
      value: (step) => step.values[at],
    }));
    const chart = new TimeChart(name, series, {
      format: isGauge && family.unit === "bytes" ? bytes : rate,
      note: `${type}${isGauge ? "" : ", per second"}`,
      height: 150,
      say: () => family.help,
    });
    const valueOf = (each) => (each.value ?? each.count ?? 0);
    const table = new Table(name, [
      { name: family.labels.join(", ") || "Series", value: (row) => row.labels.join(", ") || "all" },
      { name: isGauge ? "Value" : "Count", kind: "number", value: valueOf, show: (row) => count(valueOf(row)) },
      ...(type === "histogram" || type === "summary"
        ? [{ name: "Mean", kind: "number", value: (row) => (row.count ? row.sum / row.count : null), show: (row) => (row.count ? rate(row.sum / row.count) : "–") }]
        : []),
    ], { sortBy: 1, limit: 6 });
    chart.element.append(table.element);
    const key = (each) => each.labels.join("\u0000");
    const update = () => {
      const now = this.store.latest.own.find((each) => each.name === name);
      const values = this.past.filter((each) => each.own.has(name)).map((each) => {
        const found = new Map(each.own.get(name).series.map((one) => [key(one), valueOf(one)]));
        return { time: each.time, values: shown.map((one) => found.get(key(one)) ?? null) };
      });
      const steps = isGauge ? values : values.slice(1).map((each, at) => ({
        time: each.time,
        values: each.values.map((value, index) => (value == null ? null : growth(value, values[at].values[index] ?? 0) / Math.max(each.time - values[at].time, 1e-3))),
      }));
      chart.update(steps);
      table.update(now?.series ?? []);
    };
    return { element: chart.element, chart, update };
  }
}

/** The set-up: what is right, and what to change. */
export class ChecksView {
  constructor(store) {
    this.store = store;
    this.list = make("ul.verdicts");
    this.element = make("div", {}, this.list);
  }

  update() {
    this.list.replaceChildren(
      ...this.store.latest.checks.map((check) =>
        make(`li.verdict.${check.ok ? "ok" : "warning"}`, {}, make("span.severity", {}, check.ok ? "OK" : "Change"), make("span.summary", {}, check.summary), check.remedy ? make("span.remedy", {}, check.remedy) : null),
      ),
    );
  }

  redraw() {}
}
