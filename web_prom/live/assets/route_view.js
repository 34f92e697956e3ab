// One route: its figures, its charts, its statuses and exceptions.

import { TimeChart } from "./charts.js";
import { between, keyOf, pointOf, quantile, routeTable } from "./model.js";
import { durationSentence, waiting } from "./overview.js";
import { Figures, card, estimate, numberColumn } from "./parts.js";
import { Table } from "./table.js";
import { age, count, duration, make, percent, rate, setText } from "./text.js";

export class RouteView {
  /** @param {string} key The method and the route. */
  constructor(store, key) {
    this.store = store;
    this.key = key;
    const [method, ...rest] = key.split(" ");
    this.figures = new Figures();
    this.empty = make("p.empty", { hidden: true }, "No request of this route in the window.");
    this.charts = this.#charts();
    this.period = make("span.note");
    const values = (name, empty) => new Table(name, [
      { name, value: (row) => row[0], show: (row) => make("code", {}, row[0]) },
      numberColumn("Count", (row) => row[1]),
    ], { sortBy: 1, empty });
    this.statuses = values("Status", "No request in this window.");
    this.exceptions = values("Exception", "No exception in this window.");
    this.element = make(
      "div",
      {},
      make("a.back", { href: "#/@routes" }, "← All routes"),
      make("h2.title", {}, make("span.method", {}, method), ` ${rest.join(" ")} `, this.period),
      this.figures.element,
      this.empty,
      make(
        "div.cards",
        {},
        ...this.charts.map((chart) => chart.element),
        card("Statuses", { wide: false }, this.statuses.element),
        card("Exceptions", { wide: false }, this.exceptions.element),
      ),
    );
  }

  update(windowSeconds) {
    const { store } = this;
    const steps = this.#steps();
    for (const chart of this.charts) chart.update(steps);
    const before = store.tableBefore(windowSeconds);
    const elapsed = before ? store.latest.time - before.time : 0;
    const row = routeTable(store.latest.requests, before?.requests ?? null, elapsed).find((each) => each.key === this.key);
    setText(this.period, elapsed ? `the last ${age(elapsed)}` : "since the service started");
    this.empty.hidden = Boolean(row);
    this.figures.update(row ? figuresOf(row, store.latest.requests.buckets) : []);
    const seen = (counters) => Object.entries(counters ?? {}).filter(([, value]) => value > 0);
    this.statuses.update(seen(row?.statuses));
    this.exceptions.update(seen(row?.exceptions));
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }

  close() {
    for (const chart of this.charts) chart.close();
  }

  /** Return what the route did between each two tables: one for each minute before the page was open, then each. */
  #steps() {
    const points = [];
    for (const { time, requests } of this.store.tables) {
      const row = requests.routes.find((each) => keyOf(each) === this.key);
      if (row) points.push(pointOf({ time, workers: [], queue_time: null, requests: { ...requests, routes: [row] } }));
    }
    return points.slice(1).map((point, at) => between(points[at], point));
  }

  #charts() {
    const bounds = () => this.store.latest.requests.buckets;
    const estimated = (wanted) => (step) => quantile(bounds(), step.counts, wanted);
    const write = (value) => estimate(bounds(), value, duration);
    return [
      new TimeChart("Requests per second", [
        { name: "5xx server error", colour: "s5xx", value: (step) => step.perSecond["5xx"] ?? 0 },
        { name: "all others", colour: "s2xx", value: (step) => step.rate - (step.perSecond["5xx"] ?? 0) },
      ], { format: rate, stacked: true, say: (steps) => (steps.length ? `${rate(steps.at(-1).rate)} per second now.` : waiting) }),
      new TimeChart("Duration", [
        { name: "p99", colour: "p99", value: estimated(0.99), write },
        { name: "p95", colour: "p95", value: estimated(0.95), write, dash: [8, 3] },
        { name: "p50", colour: "p50", value: estimated(0.5), write, dash: [2, 3] },
      ], {
        format: duration,
        note: "estimates from buckets",
        say: (steps) => (steps.length ? durationSentence(bounds(), steps.at(-1).counts) : waiting),
      }),
    ];
  }
}

function figuresOf(row, bounds) {
  const written = (value) => estimate(bounds, value, duration);
  const figures = [
    row.rate == null ? ["Requests", count(row.requests), "since the service started"] : ["Requests/s", rate(row.rate), `${count(row.requests)} requests`],
    ["Server errors", percent(row.errors), "of requests", row.errors > 0.01],
    ["Mean", duration(row.mean), "exact"],
    ["Median (p50)", written(row.p50), "estimate"],
    ["p95", written(row.p95), "estimate"],
    ["p99", written(row.p99), "estimate"],
    ["Share of time", percent(row.share), "of all requests"],
  ];
  if (row.queries != null) {
    figures.push(["Queries", rate(row.queries), `per request, ${rate(row.repeated)} of them repeated`, row.repeated >= 1]);
    figures.push(["In the database", percent(row.database), "of the request's time"]);
  }
  return figures;
}
