// Parts that several views have: figures, statements with a remedy, and cells of tables.

import { isHighest } from "./model.js";
import { bytes, count, duration, make, makeSvg, percent, rate, setText } from "./text.js";

/** A card over the whole width, with a heading and an optional place that links lead to. */
export function card(title, { note, place, wide = true } = {}, ...children) {
  const attributes = { "aria-label": title, id: place, tabindex: place ? "-1" : null };
  return make(wide ? "section.card.wide" : "section.card", attributes, make("h2", {}, `${title} `, note ?? null), ...children);
}

/** Figures in large type. Those that stay keep their elements, so that nothing moves. */
export class Figures {
  constructor() {
    this.element = make("dl.figures");
    this.known = new Map();
  }

  /** @param {[string, string, string, boolean?][]} all The name, the value, what it is of, and whether it is bad. */
  update(all) {
    const names = all.map(([name]) => name);
    if (names.join() !== [...this.known.keys()].join()) {
      this.known = new Map(names.map((name) => [name, { value: make("span.value"), of: make("span.of") }]));
      for (const [name, parts] of this.known) parts.element = make("div.figure", {}, make("dt", {}, name), make("dd", {}, parts.value, parts.of));
      this.element.replaceChildren(...[...this.known.values()].map((parts) => parts.element));
    }
    for (const [name, value, of, isBad] of all) {
      const parts = this.known.get(name);
      setText(parts.value, value);
      setText(parts.of, of ?? "");
      parts.element.classList.toggle("bad", Boolean(isBad));
    }
  }
}

const words = { ok: "OK", info: "Info", warning: "Warning", critical: "Critical" };

// Where the numbers of each verdict are.
const setUp = ["#/setup", "set-up"];
const places = {
  errors: ["#/@errors", "errors"],
  repeated_queries: ["#/@routes", "routes"],
  pool_exhausted: ["#/inside@pools", "pools"],
  workers_full: ["#/@saturation", "workers"],
  workers_idle: ["#/@saturation", "workers"],
  workers: ["#/@saturation", "workers"],
  capacity_unknown: ["#/workers@workers", "workers"],
  threads_exhausted: ["#/@saturation", "workers"],
  queue_time: ["#/@waiting", "queue time"],
  loop_blocked: ["#/@waiting", "loop lag"],
  backlog: ["#/workers@sockets", "sockets"],
  listen_overflows: ["#/workers@sockets", "sockets"],
  memory_growing: ["#/workers@memory", "memory"],
  restarts: ["#/workers@workers", "workers"],
  corrupt_files: setUp,
  files_pile_up: setUp,
  instrumentation_errors: setUp,
  label_overflow: setUp,
  slow_scrape: setUp,
  storage_errors: setUp,
  unapplied_migrations: setUp,
  values_not_shared: setUp,
  healthy: null,
};

/** Statements with a remedy, the worst first. They are drawn anew only when they change. */
export class Statements {
  constructor(label) {
    this.element = make("ul.verdicts", { "aria-label": label });
    this.shown = "";
  }

  /** @param {{name: string, severity: string, word?: string, summary: string, remedy: string, numbers?: object}[]} all */
  update(all) {
    const text = JSON.stringify(all);
    if (text === this.shown) return;
    this.shown = text;
    const focused = this.element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.element.replaceChildren(...all.map(statement));
    if (focused) this.element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }
}

function statement({ name, severity, word, summary, remedy, numbers = {}, isCheck }) {
  const place = isCheck ? null : (places[name] ?? null);
  const said = Object.entries(numbers).map(([key, value]) => `${key.replace(/_(seconds|bytes)$/, "").replaceAll("_", " ")} ${formatNumber(key, value)}`);
  return make(
    `li.verdict.${severity}`,
    {},
    make("span.severity", {}, word ?? words[severity] ?? severity),
    make("span.summary", {}, summary),
    remedy ? make("span.remedy", {}, remedy) : null,
    said.length || place
      ? make("span.numbers", {}, said.join(" · "), said.length && place ? "\u00a0· " : "", place ? make("a", { href: place[0], "data-key": name }, `Show ${place[1]}`) : null)
      : null,
  );
}

function formatNumber(key, value) {
  if (/seconds$/.test(key)) return duration(value);
  if (/bytes$/.test(key)) return bytes(value);
  if (/^(utilisation|share|.*ratio)$/.test(key)) return percent(value);
  return /per_second$/.test(key) ? rate(value) : count(value);
}

/** The route of a row, as a link to its own page. Routes that share a row have none. */
export function routeLink(row) {
  if (row.route === "_rest") return "all other routes";
  const link = make("a", { href: `#/route/${encodeURIComponent(row.key)}`, "data-key": row.key }, row.route);
  return make("span.route", {}, make("span.method", {}, row.method), " ", link);
}

/** A share as a number with a bar. */
export function bar(share) {
  const width = Math.round((share ?? 0) * 54);
  const picture = makeSvg("svg", { width: 54, height: 8 }, makeSvg("rect", { width, height: 8 }));
  return make("span.share", {}, make("span.bar", { "aria-hidden": "true" }, picture), make("span.percent", {}, percent(share)));
}

export function marked(text, isHigh) {
  return isHigh ? make("span.high", {}, text) : text;
}

/** Write the estimate of a quantile. Of what is above the highest bound, no more is known. */
export function estimate(bounds, value, format) {
  return (isHighest(bounds, value) ? "≥ " : "") + format(value);
}

/** A column of numbers. */
export function numberColumn(name, value, format = count, title = undefined) {
  return { name, kind: "number", value, show: (row) => format(value(row)), title };
}
