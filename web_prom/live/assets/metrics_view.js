// The service's own metrics: a chart and a table for each family, by its type.

import { TimeChart } from "./charts.js";
import { growth, growthOfCounts, isHighest, quantile, sum } from "./model.js";
import { estimate, numberColumn } from "./parts.js";
import { Table } from "./table.js";
import { age, count, formatOf, make, rate } from "./text.js";

const colours = ["line-a", "line-b", "s2xx", "s5xx", "s3xx", "other"];
const shownAtFirst = 24;
const nameOf = ({ labels }) => (labels.length ? labels.map((value) => value || "(empty)").join(", ") : "all");
const shortName = (series) => shortened(nameOf(series));
const shortened = (name) => (name.length > 48 ? `${name.slice(0, 47)}…` : name);
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
    const note = [family.type, kind.note, shownNote(family)].filter(Boolean).join(", ");
    this.chart = new TimeChart(family.name, kind.series, {
      format: kind.format,
      note,
      height: 150,
      least: kind.least,
      say: (steps) => `${family.help} ${steps.length ? kind.say(steps.at(-1), steps) : "The chart begins with the next snapshot."}`.trim(),
    });
    const columns = [{ name: family.labels.join(", ") || "Series", value: nameOf }, ...kind.columns];
    const leftOut = family.left_out ? `${count(family.left_out)} more series have lower values.` : "";
    this.table = new Table(family.name, columns, { sortBy: 1, limit: 6, rest: leftOut });
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

/** Say which series of a family a chart has, if it does not have all. */
function shownNote({ type, series, left_out: leftOut }) {
  const shown = type === "histogram" ? series.length : Math.min(series.length, colours.length);
  const all = series.length + leftOut;
  return shown < all ? `the ${shown} highest of ${count(all)}` : "";
}

/** Return the steps between each two snapshots of a family. */
function pairs(past, step) {
  return past.slice(1).map((now, at) => {
    const before = past[at];
    return { time: now.time, ...step(now.family, before.family, Math.max(now.time - before.time, 1e-3)) };
  });
}

function lines(family) {
  return family.series.slice(0, colours.length).map((each) => ({ name: shortName(each), key: each.labels.join("\u0000") }));
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
    stepsOf: (past) => pairs(past, (now, before, elapsed) => ({ values: ratesOf(now, before, elapsed, shown), all: growth(now.total, before.total) / elapsed })),
    say: (step) => `${rate(step.all)} per second now.`,
    columns: [numberColumn("Total", valueOf)],
  };
}

/** Gauges with a point in time: the chart and the table have how long ago it was. 0 is no time. */
function timestampChart(family) {
  const shown = lines(family);
  const ago = (value) => (value == null ? "–" : value < 0 ? `in ${age(-value)}` : `${age(value)} ago`);
  const since = (time, series) => (series?.value ? time - series.value : null);
  let now = 0;
  return {
    note: "time since then",
    format: age,
    least: 60,
    series: seriesOf(shown).map((each) => ({ ...each, write: ago })),
    stepsOf: (past) => {
      now = past.at(-1)?.time ?? now;
      return past.map(({ time, family: each }) => ({ time, values: shown.map(({ key }) => since(time, found(each, key))) }));
    },
    say: (step) => (shown.length === 1 && step.values[0] != null ? `It was ${ago(step.values[0])}.` : ""),
    columns: [numberColumn("Time", (row) => since(now, row), ago)],
  };
}

function gaugeChart(family) {
  if (family.name.endsWith("_timestamp_seconds")) return timestampChart(family);
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
  const write = (value) => estimate(buckets, value, format);
  return {
    note: "estimates from buckets",
    format,
    series: [
      { name: "p99", colour: "p99", value: estimated(0.99), write },
      { name: "p95", colour: "p95", value: estimated(0.95), write, dash: [8, 3] },
      { name: "p50", colour: "p50", value: estimated(0.5), write, dash: [2, 3] },
    ],
    stepsOf: (past) =>
      pairs(past, (now, before) => {
        const counts = now.series.map((each) => growthOfCounts(each.counts, found(before, each.labels.join("\u0000"))?.counts));
        return { counts: buckets.map((_, at) => sum(counts.map((each) => each[at] ?? 0))) };
      }),
    say: (step) => {
      const p95 = estimated(0.95)(step);
      if (p95 == null) return "Nothing was observed just now.";
      return isHighest(buckets, p95) ? `5 % or more are greater than ${format(p95)} now.` : `95 % are less than ${format(p95)} now.`;
    },
    columns: [
      numberColumn("Count", valueOf),
      numberColumn("Mean", meanOf, format),
      numberColumn("p95", (row) => quantile(buckets, row.counts, 0.95), write, "Since the service started: an estimate from buckets"),
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
    say: (step) => (shown.length === 1 && step.values[0] != null ? `The mean is ${format(step.values[0])} now.` : ""),
    columns: [numberColumn("Count", valueOf), numberColumn("Mean", meanOf, format)],
  };
}
