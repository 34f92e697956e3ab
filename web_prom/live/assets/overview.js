// The first view: verdicts, figures, charts over time, routes and exceptions.

import { HeatMap, TimeChart, sparkline } from "./charts.js";
import { exceptionTable, quantile, routeTable, sum } from "./model.js";
import { Table } from "./table.js";
import { age, count, duration, make, makeSvg, percent, rate } from "./text.js";

const classes = [
  ["2xx", "2xx success"],
  ["3xx", "3xx redirect"],
  ["4xx", "4xx client error"],
  ["5xx", "5xx server error"],
];

/** Return the verdicts as a list, the worst first. */
export function verdictList(verdicts) {
  return make(
    "ul.verdicts",
    { "aria-label": "Verdicts" },
    ...verdicts.map((verdict) =>
      make(
        `li.verdict.${verdict.severity}`,
        {},
        make("span.severity", {}, verdict.severity === "ok" ? "OK" : verdict.severity[0].toUpperCase() + verdict.severity.slice(1)),
        make("span.summary", {}, verdict.summary),
        verdict.remedy ? make("span.remedy", {}, verdict.remedy) : null,
      ),
    ),
  );
}

export function routeLink(row) {
  return make("span", {}, make("span.method", {}, row.method), make("a", { href: `#/route/${encodeURIComponent(row.key)}`, "data-key": row.key }, row.route));
}

function bar(share) {
  const width = Math.round((share ?? 0) * 54);
  return make(
    "span",
    {},
    make("span.bar", { "aria-hidden": "true" }, makeSvg("svg", { width: 54, height: 8 }, makeSvg("rect", { width, height: 8 }))),
    percent(share),
  );
}

function marked(text, isHigh) {
  return isHigh ? make("span.high", {}, text) : text;
}

/** Return the columns of a table of routes. Those of the database are left out where it is not measured. */
export function routeColumns(store, hasQueries) {
  const columns = [
    { name: "Route", value: (row) => row.key, show: routeLink },
    { name: "Trend", value: (row) => row.rate, show: (row) => sparkline(store.rates(row.key)), title: "Requests per second over the last 15 minutes" },
    { name: "Requests/s", kind: "number", value: (row) => row.rate ?? row.requests, show: (row) => (row.rate == null ? count(row.requests) : rate(row.rate)) },
    { name: "Errors", kind: "number", value: (row) => row.errors, show: (row) => marked(percent(row.errors), row.errors > 0.01), title: "Share of requests that ended in a server error (5xx)" },
    { name: "p95", kind: "number", value: (row) => row.p95, show: (row) => duration(row.p95), title: "95 % of requests took less: an estimate from buckets" },
  ];
  if (hasQueries) {
    columns.push(
      { name: "Queries", kind: "number", value: (row) => row.queries, show: (row) => rate(row.queries), title: "Database queries per request" },
      { name: "Repeated", kind: "number", value: (row) => row.repeated, show: (row) => marked(rate(row.repeated), row.repeated >= 1), title: "Queries per request with the SQL of two earlier ones in the same request: N+1" },
    );
  }
  columns.push({ name: "Time", kind: "number", value: (row) => row.share, show: (row) => bar(row.share), title: "Share of the time of all requests" });
  return columns;
}

export class Overview {
  constructor(store) {
    this.store = store;
    this.verdicts = make("div");
    this.figures = make("dl.figures", { "aria-label": "Figures" });
    this.charts = this.#charts();
    this.routes = null;
    this.exceptions = new Table(
      "Exceptions",
      [
        { name: "Exception", value: (row) => row.name, show: (row) => make("code", {}, row.name) },
        { name: "Route", value: (row) => row.key, show: routeLink },
        { name: "Count", kind: "number", value: (row) => row.count, show: (row) => count(row.count) },
      ],
      { sortBy: 2, limit: 10, empty: "No view raised an exception in this window." },
    );
    this.routeCard = make("section.card.wide", { "aria-label": "Routes" });
    this.element = make(
      "div",
      {},
      this.verdicts,
      this.figures,
      make("div.cards", {}, ...this.charts.map((chart) => chart.element), this.routeCard, make("section.card.wide", { "aria-label": "Exceptions by type and route" }, make("h2", {}, "Exceptions"), this.exceptions.element)),
    );
  }

  update(windowSeconds) {
    const { store } = this;
    const { latest } = store;
    const steps = store.steps();
    const window = store.window(windowSeconds);
    this.verdicts.replaceChildren(verdictList(latest.verdicts));
    this.figures.replaceChildren(...this.#figures(window));
    const [requests, latency, heat, saturation] = this.charts;
    requests.update(steps);
    latency.update(steps);
    heat.update(steps, latest.requests.buckets);
    saturation.update(steps);
    const before = store.routesBefore(windowSeconds);
    const elapsed = before ? latest.time - before.time : 0;
    const rows = routeTable(latest.requests, before?.requests ?? null, elapsed);
    this.#showRoutes(rows, elapsed);
    this.exceptions.update(exceptionTable(rows));
  }

  redraw() {
    for (const chart of this.charts) chart.draw();
  }

  #showRoutes(rows, elapsed) {
    const hasQueries = rows.some((row) => row.queries != null);
    if (!this.routes || this.hasQueries !== hasQueries) {
      this.hasQueries = hasQueries;
      const columns = routeColumns(this.store, hasQueries);
      this.routes = new Table("Routes", columns, { sortBy: columns.length - 1, limit: 25, filter: "Filter routes", empty: "No request in this window." });
      this.routeNote = make("span.note");
      this.routeCard.replaceChildren(make("h2", {}, "Routes", this.routeNote), this.routes.element);
    }
    const { left_out: leftOut } = this.store.latest.requests;
    const rest = leftOut ? ` · the ${leftOut} routes with the fewest requests are one row` : "";
    this.routeNote.textContent = (elapsed ? `the last ${age(elapsed)}` : "since the service started") + rest;
    this.routes.update(rows);
  }

  #figures(window) {
    const bounds = this.store.latest.requests.buckets;
    const at = (wanted) => (window ? quantile(bounds, window.counts, wanted) : null);
    const inWindow = window ? `the last ${age(window.elapsed)}` : "waiting for a second snapshot";
    const figures = [
      ["Requests/s", rate(window?.rate), inWindow],
      ["Server errors", percent(window?.errors), "of requests", window?.errors > 0.01],
      ["Median (p50)", duration(at(0.5)), "estimate from buckets"],
      ["p95", duration(at(0.95)), "estimate from buckets"],
      ["p99", duration(at(0.99)), "estimate from buckets"],
      ["In progress", count(this.store.latest.requests.in_progress), "requests now"],
    ];
    if (window?.utilisation != null) {
      figures.push(["Workers busy", percent(window.utilisation), "of their capacity", window.utilisation > 0.8]);
    }
    if (window?.queueMean != null) figures.push(["Wait for a worker", duration(window.queueMean), "mean of requests"]);
    return figures.map(([name, value, note, bad]) =>
      make(bad ? "div.figure.bad" : "div.figure", {}, make("dt", {}, name), make("dd", {}, value, make("span.of", {}, note))),
    );
  }

  #charts() {
    const bounds = () => this.store.latest.requests.buckets;
    const estimated = (wanted) => (step) => quantile(bounds(), step.counts, wanted);
    const last = (steps) => steps.at(-1);
    const waiting = "Waiting for a second snapshot.";
    return [
      new TimeChart(
        "Requests per second",
        classes.map(([name, label]) => ({ name: label, colour: `s${name}`, value: (step) => step.perSecond[name] ?? 0 })).reverse(),
        {
          format: rate,
          stacked: true,
          say: (steps) => (steps.length ? `${rate(last(steps).rate)} per second now, ${percent(last(steps).errors)} server errors.` : waiting),
        },
      ),
      new TimeChart(
        "Duration of requests",
        [
          { name: "p99", colour: "p99", value: estimated(0.99) },
          { name: "p95", colour: "p95", value: estimated(0.95), dash: [8, 3] },
          { name: "p50", colour: "p50", value: estimated(0.5), dash: [2, 3] },
        ],
        {
          format: duration,
          note: "estimates from buckets",
          say: (steps) => (steps.length ? `95 % took less than ${duration(estimated(0.95)(last(steps)))} now, half less than ${duration(estimated(0.5)(last(steps)))}.` : waiting),
        },
      ),
      new HeatMap("Requests by duration", {
        format: (bound) => (bound === null ? "longer" : `≤ ${duration(bound)}`),
        note: "darker is more",
        say: (steps) => {
          const slow = sum(steps.map((step) => step.counts.at(-1)));
          const limit = bounds().at(-2);
          return steps.length ? `${count(slow)} requests took longer than ${duration(limit)}.` : waiting;
        },
      }),
      new TimeChart(
        "Workers",
        [
          { name: "Busy", colour: "line-a", value: (step) => step.utilisation },
          { name: "Processor, of one core", colour: "line-b", value: (step) => step.cpu, dash: [8, 3] },
        ],
        {
          format: percent,
          note: "busy: of the workers' capacity",
          say: (steps) => {
            const step = last(steps);
            if (!step) return waiting;
            if (step.utilisation == null) return "The capacity of the workers is not known: set PROM_WORKER_CAPACITY.";
            const wait = step.queueMean == null ? "" : ` A request waited ${duration(step.queueMean)} for a worker.`;
            return `${percent(step.utilisation)} of the workers' capacity is in use.${wait}`;
          },
        },
      ),
    ];
  }
}
