// The service's own metrics: a chart and a table for each family, by its type.

import { TimeChart } from "./charts.js";
import { growth, growthOfCounts, quantile, sum } from "./model.js";
import { numberColumn } from "./parts.js";
import { Table } from "./table.js";
import { count, formatOf, make, rate } from "./text.js";

const colours = ["line-a", "line-b", "s2xx", "s5xx", "s3xx", "other"];
const shownAtFirst = 24;
const nameOf = (series) => series.labels.join(", ") || "all";
const valueOf = (series) => series.value ?? series.count ?? 0;

export class MetricsView {
  constructor(store) {
    this.store = store;
    this.cards = new Map();
    this.wanted = "";
    this.all = false;
    this.list = make("div.cards");
    this.empty = make("p.empty", { hidden: true });
    this.filter = make("input", { type: "search", placeholder: "Filter metrics", "aria-label": "Filter metrics", oninput: (event) => this.#find(event.target.value) });
    this.more = make("button.more", { type: "button", hidden: true, onclick: () => this.#showAll() });
    this.element = make("div", {}, make("div.filter", {}, this.filter), this.empty, this.list, this.more);
  }

  update() {
    const { own } = this.store.latest;
    const found = own.filter(({ name, help }) => `${name} ${help}`.toLowerCase().includes(this.wanted));
    const shown = found.slice(0, this.all ? found.length : shownAtFirst);
    for (const family of shown) {
      const known = this.cards.get(family.name);
      if (!known || known.key !== keyOfFamily(family)) {
        known?.close();
        this.cards.set(family.name, new FamilyCard(this.store, family));
      }
    }
    const elements = shown.map(({ name }) => this.cards.get(name).element);
    if (elements.length !== this.list.childElementCount || elements.some((each, at) => each !== this.list.children[at])) this.list.replaceChildren(...elements);
    for (const { name } of shown) this.cards.get(name).update();
    this.filter.hidden = own.length < 2;
    this.more.hidden = shown.length === found.length;
    this.more.textContent = `Show all ${found.length} metrics`;
    this.empty.hidden = found.length > 0;
    this.empty.textContent = own.length ? "No metric contains this text." : "The service has no metrics of its own. Counters, gauges and histograms of prometheus_client appear here.";
  }

  redraw() {
    for (const each of this.cards.values()) each.chart.redraw();
  }

  close() {
    for (const each of this.cards.values()) each.close();
  }

  #find(text) {
    this.wanted = text.trim().toLowerCase();
    this.update();
  }

  #showAll() {
    this.all = true;
    this.update();
  }
}

/** A family with other buckets or a new series in its chart gets another card. */
function keyOfFamily(family) {
  return JSON.stringify([family.type, family.buckets, Math.min(family.series.length, colours.length)]);
}

class FamilyCard {
  constructor(store, family) {
    this.store = store;
    this.name = family.name;
    this.key = keyOfFamily(family);
    const kinds = { counter: counterChart, histogram: histogramChart, summary: summaryChart };
    const kind = (kinds[family.type] ?? gaugeChart)(family);
    this.stepsOf = kind.stepsOf;
    const note = [family.type, kind.note, family.series.length > colours.length && family.type !== "histogram" ? `the ${colours.length} highest of ${family.series.length + family.left_out}` : ""].filter(Boolean).join(", ");
    this.chart = new TimeChart(family.name, kind.series, {
      format: kind.format,
      note,
      height: 150,
      say: (steps) => `${family.help} ${steps.length ? kind.say(steps.at(-1)) : "The chart begins with the next snapshot."}`.trim(),
    });
    const columns = [{ name: family.labels.join(", ") || "Series", value: nameOf }, ...kind.columns];
    this.table = new Table(family.name, columns, { sortBy: 1, limit: 6 });
    this.chart.element.append(this.table.element);
    this.element = this.chart.element;
  }

  update() {
    const past = this.store.sections.map(({ time, own }) => ({ time, family: own.find((each) => each.name === this.name) })).filter((each) => each.family);
    this.chart.update(this.stepsOf(past));
    this.table.update(past.at(-1)?.family.series ?? []);
  }

  close() {
    this.chart.close();
  }
}

/** Return the steps between each two snapshots of a family. */
function pairs(past, step) {
  return past.slice(1).map((now, at) => {
    const before = past[at];
    return { time: now.time, ...step(now.family, before.family, Math.max(now.time - before.time, 1e-3)) };
  });
}

function lines(family) {
  return family.series.slice(0, colours.length).map((each) => ({ name: nameOf(each), key: each.labels.join("\u0000") }));
}

function found(family, key) {
  return family.series.find((each) => each.labels.join("\u0000") === key);
}

function ratesOf(now, before, elapsed, shown) {
  return shown.map(({ key }) => {
    const series = found(now, key);
    const former = found(before, key);
    return series ? growth(valueOf(series), former ? valueOf(former) : 0) / elapsed : null;
  });
}

function seriesOf(shown) {
  return shown.map(({ name }, at) => ({ name, colour: colours[at], value: (step) => step.values[at] }));
}

function counterChart(family) {
  const shown = lines(family);
  return {
    note: "per second",
    format: rate,
    series: seriesOf(shown),
    stepsOf: (past) => pairs(past, (now, before, elapsed) => ({ values: ratesOf(now, before, elapsed, shown) })),
    say: (step) => `${rate(sum(step.values.map((value) => value ?? 0)))} per second now.`,
    columns: [numberColumn("Total", valueOf)],
  };
}

function gaugeChart(family) {
  const shown = lines(family);
  const format = formatOf(family.unit);
  return {
    note: "",
    format,
    series: seriesOf(shown),
    stepsOf: (past) => past.map(({ time, family: each }) => ({ time, values: shown.map(({ key }) => found(each, key)?.value ?? null) })),
    say: (step) => (shown.length === 1 && step.values[0] != null ? `${format(step.values[0])} now.` : ""),
    columns: [numberColumn("Value", (row) => row.value, family.unit ? format : count)],
  };
}

const meanOf = (row) => (row.count ? row.sum / row.count : null);

/** Quantiles over all series of a histogram. */
function histogramChart(family) {
  const format = formatOf(family.unit);
  const { buckets } = family;
  const estimated = (wanted) => (step) => quantile(buckets, step.counts, wanted);
  return {
    note: "estimates from buckets",
    format,
    series: [
      { name: "p99", colour: "p99", value: estimated(0.99) },
      { name: "p95", colour: "p95", value: estimated(0.95), dash: [8, 3] },
      { name: "p50", colour: "p50", value: estimated(0.5), dash: [2, 3] },
    ],
    stepsOf: (past) =>
      pairs(past, (now, before) => {
        const counts = now.series.map((each) => growthOfCounts(each.counts, found(before, each.labels.join("\u0000"))?.counts));
        return { counts: buckets.map((_, at) => sum(counts.map((each) => each[at] ?? 0))) };
      }),
    say: (step) => (sum(step.counts) ? `95 % are less than ${format(estimated(0.95)(step))} now.` : "Nothing was observed just now."),
    columns: [
      numberColumn("Count", valueOf),
      numberColumn("Mean", meanOf, format),
      numberColumn("p95", (row) => quantile(buckets, row.counts, 0.95), format, "Since the service started: an estimate from buckets"),
    ],
  };
}

function summaryChart(family) {
  const shown = lines(family);
  const format = formatOf(family.unit);
  return {
    note: "mean",
    format,
    series: seriesOf(shown),
    stepsOf: (past) =>
      pairs(past, (now, before) => ({
        values: shown.map(({ key }) => {
          const [series, former] = [found(now, key), found(before, key)];
          const observed = series ? growth(series.count, former?.count ?? 0) : 0;
          return observed ? growth(series.sum, former?.sum ?? 0) / observed : null;
        }),
      })),
    say: () => "",
    columns: [numberColumn("Count", valueOf), numberColumn("Mean", meanOf, format)],
  };
}
