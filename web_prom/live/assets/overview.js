// The first view: verdicts, figures, charts over time, routes and exceptions.

import { HeatMap, TimeChart, sparkline } from "./charts.js";
import { exceptionTable, isHighest, quantile, routeTable, sum, sumOfCounts } from "./model.js";
import { Figures, Statements, bar, card, estimate, marked, numberColumn, routeLink } from "./parts.js";
import { Table } from "./table.js";
import { age, count, duration, make, percent, rate, setText } from "./text.js";
import { WebSocketView } from "./websocket_view.js";

const classes = [
  ["2xx", "2xx success"],
  ["3xx", "3xx redirect"],
  ["4xx", "4xx client error"],
  ["5xx", "5xx server error"],
];
export const waiting = "Waiting for a second snapshot.";

/** Say how long most took, from an estimate of the 95th percentile. Above the highest bound, only the others are known. */
function mostSentence(bounds, p95, are, end, none) {
  if (p95 == null) return none;
  return isHighest(bounds, p95) ? `5 % or more ${are} longer than ${duration(p95)} ${end}.` : `95 % ${are} less than ${duration(p95)} ${end}.`;
}

/** Say how long requests took. */
export function durationSentence(bounds, counts) {
  return mostSentence(bounds, quantile(bounds, counts, 0.95), "took", "now", "No request ended just now.").replace(/\.$/, half(bounds, counts));
}

function half(bounds, counts) {
  const p50 = quantile(bounds, counts, 0.5);
  return p50 == null || isHighest(bounds, p50) ? "." : `, half less than ${duration(p50)}.`;
}

const isHighShare = (value) => value > 0.01;

/** Return the columns of a table of routes. Those of the database are left out where it is not measured. */
function routeColumns(store, hasQueries) {
  const columns = [
    { name: "Route", value: (row) => row.key, show: routeLink },
    { name: "Trend", kind: "trend", value: (row) => row.rate, show: (row) => sparkline(store.rates(row.key)), title: "Requests per second over the last 15 minutes" },
    { name: "Requests/s", kind: "number", value: (row) => row.rate ?? row.requests, show: (row) => (row.rate == null ? `${count(row.requests)} in all` : rate(row.rate)) },
    { name: "Errors", kind: "number", value: (row) => row.errors, show: (row) => marked(percent(row.errors), isHighShare(row.errors)), title: "Share of requests that ended in a server error (5xx)" },
    numberColumn("p95", (row) => row.p95, (value) => estimate(store.latest.requests.buckets, value, duration), "95 % of requests took less: an estimate from buckets"),
  ];
  if (hasQueries) {
    columns.push(numberColumn("Queries", (row) => row.queries, rate, "Database queries per request"), {
      name: "Repeated",
      kind: "number",
      value: (row) => row.repeated,
      show: (row) => marked(rate(row.repeated), row.repeated >= 1),
      title: "Queries per request whose statement the same request had sent before: N+1",
    });
  }
  columns.push({ name: "Time", kind: "number", value: (row) => row.share, show: (row) => bar(row.share), title: "Share of the time of all requests" });
  return columns;
}

export class Overview {
  constructor(store) {
    this.store = store;
    this.verdicts = new Statements("Verdicts");
    this.figures = new Figures();
    this.charts = this.#charts();
    this.waits = null;
    this.webSockets = null;
    this.webSocketsHolder = make("div.holder.wide", { hidden: true });
    this.waitsCard = make("div.holder");
    this.empty = make("p.empty.card");
    this.routeNote = make("span.note");
    this.routeCard = card("Routes", { note: this.routeNote, place: "routes" });
    this.exceptions = new Table(
      "Exceptions",
      [
        { name: "Exception", value: (row) => row.name, show: (row) => make("code", {}, row.name) },
        { name: "Route", value: (row) => row.key, show: routeLink },
        numberColumn("Count", (row) => row.count),
      ],
      { sortBy: 2, limit: 10, empty: "No view raised an exception in this window." },
    );
    const cards = [...Object.values(this.charts).map((chart) => chart.element), this.waitsCard];
    this.cards = make("div.cards", {}, ...cards, this.routeCard, card("Exceptions by type and route", { place: "exceptions" }, this.exceptions.element), this.webSocketsHolder);
    this.element = make("div", {}, this.verdicts.element, this.figures.element, this.empty, this.cards);
  }

  update(windowSeconds) {
    const { store, charts } = this;
    const { latest } = store;
    const steps = store.steps();
    this.verdicts.update(latest.verdicts);
    this.#showEmpty();
    this.figures.update(this.#figures(store.window(windowSeconds)));
    for (const chart of [charts.requests, charts.errors, charts.duration, charts.workers]) chart.update(steps);
    charts.heat.update(steps, latest.requests.buckets, this.#slowest(steps));
    this.#showWaits(steps);
    const before = store.tableBefore(windowSeconds);
    const elapsed = before ? latest.time - before.time : 0;
    const rows = routeTable(latest.requests, before?.requests ?? null, elapsed);
    this.#showRoutes(rows, elapsed);
    this.exceptions.update(exceptionTable(rows));
    this.#showWebSockets(windowSeconds);
  }

  redraw() {
    for (const each of [...Object.values(this.charts), this.waits, this.webSockets]) each?.redraw();
  }

  close() {
    for (const each of [...Object.values(this.charts), this.waits, this.webSockets]) each?.close();
  }

  #showWebSockets(windowSeconds) {
    if (!this.store.latest.websockets) return;
    if (!this.webSockets) {
      this.webSockets = new WebSocketView(this.store);
      this.webSocketsHolder.append(this.webSockets.element);
      this.webSocketsHolder.hidden = false;
    }
    this.webSockets.update(windowSeconds);
  }

  /** Show the chart of queue time and loop lag, with what is measured of the two. */
  #showWaits(steps) {
    const { queue_time: queue, event_loop: loop } = this.store.latest;
    const measured = [Boolean(queue), Boolean(loop)].join();
    if (this.measured !== measured) {
      this.measured = measured;
      this.waits?.close();
      this.waits = queue || loop ? this.#waits(queue, loop) : null;
      this.waitsCard.replaceChildren(...(this.waits ? [this.waits.element] : []));
      this.waitsCard.hidden = !this.waits;
    }
    this.waits?.update(steps);
  }

  /** Say why there is nothing to see. */
  #showEmpty() {
    const { latest } = this.store;
    const { routes, buckets } = latest.requests;
    let reason = "";
    if (latest.websockets) reason = "";
    else if (!routes.length && buckets.length <= 1 && latest.own.length) {
      reason = "The service has no metrics of HTTP requests that this page knows. Its other metrics are under “Own metrics”.";
    } else if (!routes.length) {
      reason = `No request was measured yet. Send one to the service: it appears here within ${age(latest.interval_seconds)}.`;
    }
    this.empty.hidden = !reason;
    this.cards.hidden = Boolean(reason);
    this.figures.element.hidden = Boolean(reason);
    setText(this.empty, reason);
  }

  #showRoutes(rows, elapsed) {
    const hasQueries = rows.some((row) => row.queries != null);
    if (!this.routes || (hasQueries && !this.hasQueries)) {
      this.hasQueries = hasQueries;
      const columns = routeColumns(this.store, hasQueries);
      this.routes = new Table("Routes", columns, { sortBy: columns.length - 1, limit: 25, filter: "Filter routes", empty: "No request in this window." });
      this.routeCard.replaceChildren(this.routeCard.firstChild, this.routes.element);
    }
    const { left_out: leftOut } = this.store.latest.requests;
    const rest = leftOut ? ` · the ${leftOut} routes with the fewest requests are one row` : "";
    setText(this.routeNote, (elapsed ? `the last ${age(elapsed)}` : "since the service started") + rest);
    this.routes.update(rows);
  }

  #figures(window) {
    const { latest } = this.store;
    const estimated = (bounds, counts, wanted) => estimate(bounds, counts && quantile(bounds, counts, wanted), duration);
    const at = (wanted) => estimated(latest.requests.buckets, window?.counts, wanted);
    const figures = [
      ["Requests/s", rate(window?.rate), window ? `the last ${age(window.elapsed)}` : "waiting for a second snapshot"],
      ["Server errors", percent(window?.errors), "of requests", isHighShare(window?.errors)],
      ["Median (p50)", at(0.5), "estimate"],
      ["p95", at(0.95), "estimate"],
      ["p99", at(0.99), "estimate"],
      ["In progress", count(latest.requests.in_progress), "requests now"],
    ];
    const utilisation = window?.utilisation;
    figures.push(["Workers busy", percent(utilisation), utilisation == null ? "capacity not known" : "of their capacity", utilisation > 0.8]);
    if (latest.queue_time) figures.push(["Queue time p95", estimated(latest.queue_time.buckets, window?.queueCounts, 0.95), "estimated wait"]);
    return figures;
  }

  #slowest(steps) {
    const { buckets } = this.store.latest.requests;
    const counts = sumOfCounts(steps, "counts");
    if (!counts) return waiting;
    const observed = sum(counts);
    if (!observed) return "No request in this time.";
    const at = counts.findLastIndex((value) => value > 0);
    const bound = buckets[at] ?? buckets.at(-2);
    return buckets[at] === null ? `${count(counts[at])} of ${count(observed)} requests took longer than ${duration(bound)}.` : `No request took longer than ${duration(bound)}.`;
  }

  #charts() {
    const bounds = () => this.store.latest.requests.buckets;
    const estimated = (wanted) => (step) => quantile(bounds(), step.counts, wanted);
    const write = (value) => estimate(bounds(), value, duration);
    const requests = new TimeChart(
      "Requests per second",
      classes.map(([name, label]) => ({ name: label, colour: `s${name}`, value: (step) => step.perSecond[name] ?? 0 })).reverse(),
      {
        format: rate,
        stacked: true,
        place: "requests",
        say: (steps) => (steps.length ? `${rate(steps.at(-1).rate)} per second now; the highest was ${rate(Math.max(...steps.map((step) => step.rate)))}.` : waiting),
      },
    );
    const errors = new TimeChart("Error ratio", [
      { name: "server errors (5xx)", colour: "s5xx", value: (step) => step.errors },
      { name: "client errors (4xx)", colour: "s4xx", value: (step) => (step.rate ? (step.perSecond["4xx"] ?? 0) / step.rate : null), dash: [8, 3] },
    ], {
      format: percent,
      place: "errors",
      least: 0.01,
      note: "share of requests",
      say: (steps) => (steps.length ? `${percent(steps.at(-1).errors)} of requests end in a server error now.` : waiting),
    });
    const latency = new TimeChart("Duration of requests", [
      { name: "p99", colour: "p99", value: estimated(0.99), write },
      { name: "p95", colour: "p95", value: estimated(0.95), write, dash: [8, 3] },
      { name: "p50", colour: "p50", value: estimated(0.5), write, dash: [2, 3] },
    ], {
      format: duration,
      place: "duration",
      note: "estimates from buckets",
      say: (steps) => (steps.length ? durationSentence(bounds(), steps.at(-1).counts) : waiting),
    });
    const heat = new HeatMap("Requests by duration", {
      format: (bound) => (bound === null ? "longer" : `≤ ${duration(bound)}`),
      formatRate: rate,
      place: "heat",
      note: "a stronger colour is more per second",
    });
    const workers = new TimeChart("Workers", [
      { name: "busy, of their capacity", colour: "line-a", value: (step) => step.utilisation },
      { name: "processor, of one core", colour: "line-b", value: (step) => step.cpu, dash: [8, 3] },
    ], {
      format: percent,
      place: "saturation",
      least: 1,
      say: (steps) => {
        const step = steps.at(-1);
        if (!step) return waiting;
        if (step.utilisation == null) return "How many requests the workers serve at once is not known: set PROM_WORKER_CAPACITY.";
        return `${percent(step.utilisation)} of the workers' capacity is in use.`;
      },
    });
    return { requests, errors, duration: latency, heat, workers };
  }

  #waits(hasQueue, hasLoop) {
    const estimated = (section, counts) => (step) => {
      const { [section]: histogram } = this.store.latest;
      return histogram && step[counts] && quantile(histogram.buckets, step[counts], 0.95);
    };
    const queue = estimated("queue_time", "queueCounts");
    const loop = estimated("event_loop", "loopCounts");
    const series = [];
    const writes = (section) => (value) => estimate(this.store.latest[section]?.buckets ?? [], value, duration);
    if (hasQueue) {
      series.push({ name: "queue time p95", colour: "line-a", value: queue, write: writes("queue_time") });
      series.push({ name: "queue time mean", colour: "s2xx", value: (step) => step.queueMean, dash: [2, 3] });
    }
    if (hasLoop) series.push({ name: "event loop lag p95", colour: "line-b", value: loop, write: writes("event_loop"), dash: [8, 3] });
    const say = (steps) => {
      const step = steps.at(-1);
      if (!step) return waiting;
      const sentences = [];
      const { queue_time: queues, event_loop: loops } = this.store.latest;
      if (hasQueue) sentences.push(mostSentence(queues?.buckets, queue(step), "of requests wait", "for a worker", "No request was served just now."));
      if (hasLoop) sentences.push(mostSentence(loops?.buckets, loop(step), "of the event loop's turns are", "late", "The event loop's lag is not known just now."));
      return sentences.join(" ");
    };
    return new TimeChart("Waiting", series, { format: duration, place: "waiting", note: "p95: an estimate from buckets", say });
  }
}
