// Charts over time: lines and stacked areas by uPlot, a heat map, and small lines in tables.
//
// Each chart has a sentence that states what it shows (its aria-label), and a table with the same numbers.

import { clock, make, makeSvg } from "./text.js";

const tableRows = 12;

/** Return the colour of a CSS variable as the page has it now, in light or dark. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} colour The name of a CSS variable.
 * @property {(step: object) => (number|null)} value
 * @property {number[]} [dash]
 */

/** A card with a heading, the current finding, a picture, and a table of the same numbers. */
class Card {
  constructor(title, note) {
    this.finding = make("p.finding");
    this.picture = make("div.picture", { role: "img" });
    this.rows = make("tbody");
    this.head = make("tr");
    this.table = make("table", {}, make("caption.hidden", {}, title), make("thead", {}, this.head), this.rows);
    this.details = make("details", {}, make("summary", {}, "Numbers"), make("div.scroller", { tabindex: "0" }, this.table));
    this.details.addEventListener("toggle", () => this.fillTable());
    this.title = title;
    this.element = make(
      "section.card",
      { "aria-label": title },
      make("h2", {}, title, note ? make("span.note", {}, note) : null),
      this.finding,
      this.picture,
      this.details,
    );
    this.steps = [];
  }

  state(sentence) {
    this.finding.textContent = sentence;
    this.picture.setAttribute("aria-label", `${this.title}. ${sentence}`);
  }

  fillTable() {}

  setTable(names, lines) {
    this.head.replaceChildren(...names.map((name) => make("th", { scope: "col" }, name)));
    this.rows.replaceChildren(
      ...lines.map(([first, ...cells]) =>
        make("tr", {}, make("th", { scope: "row" }, first), ...cells.map((cell) => make("td.number", {}, cell))),
      ),
    );
  }
}

export class TimeChart extends Card {
  /**
   * @param {string} title
   * @param {Series[]} series
   * @param {{format: (value: number) => string, stacked?: boolean, note?: string, height?: number,
   *     highest?: number, say: (steps: object[]) => string}} options
   */
  constructor(title, series, options) {
    super(title, options.note);
    this.series = series;
    this.options = options;
    this.plot = null;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(this.picture);
  }

  update(steps) {
    this.steps = steps;
    this.state(this.options.say(steps));
    if (this.plot) this.plot.setData(this.#data());
    else this.draw();
    if (this.details.open) this.fillTable();
  }

  /** Draw anew: the colours or the width have changed. */
  draw() {
    this.plot?.destroy();
    this.plot = null;
    const width = this.picture.clientWidth;
    if (!width || this.steps.length < 2) return;
    const { format, stacked, height = 170, highest } = this.options;
    const line = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false } };
    this.plot = new uPlot(
      {
        width,
        height,
        legend: { live: true },
        cursor: { y: false, points: { size: 6 } },
        scales: { y: { range: (_plot, _low, high) => [0, highest ?? Math.max(high * 1.1, 1e-3)] } },
        axes: [
          { ...line, font: "12px system-ui", size: 28, grid: { show: false }, values: (_plot, times) => times.map((time) => clock(time).slice(0, 5)) },
          { ...line, font: "12px system-ui", size: 64, values: (_plot, values) => values.map(format) },
        ],
        series: [
          { label: "Time", class: "time", value: (_plot, time) => (time == null ? "–" : clock(time)) },
          ...this.series.map((each, at) => ({
            label: each.name,
            stroke: colour(each.colour),
            width: stacked ? 0.5 : 1.5,
            dash: each.dash,
            fill: stacked ? colour(each.colour) : undefined,
            spanGaps: false,
            points: { show: false },
            value: (_plot, _value, _series, index) => {
              const shown = index == null ? null : each.value(this.steps[index]);
              return shown == null ? "–" : format(shown);
            },
            at,
          })),
        ],
      },
      this.#data(),
      this.picture,
    );
  }

  resize() {
    const width = this.picture.clientWidth;
    if (this.plot && width) this.plot.setSize({ width, height: this.options.height ?? 170 });
    else this.draw();
  }

  fillTable() {
    const { format } = this.options;
    const shown = this.steps.slice(-tableRows).reverse();
    this.setTable(
      ["Time", ...this.series.map((each) => each.name)],
      shown.map((step) => [
        clock(step.time),
        ...this.series.map((each) => {
          const value = each.value(step);
          return value == null ? "–" : format(value);
        }),
      ]),
    );
  }

  /** Return uPlot's columns. Of stacked areas, each holds the sum of itself and all after it. */
  #data() {
    const times = this.steps.map((step) => step.time);
    const columns = this.series.map((each) => this.steps.map((step) => each.value(step) ?? null));
    if (this.options.stacked) {
      for (let at = columns.length - 2; at >= 0; at -= 1) {
        columns[at] = columns[at].map((value, index) => (value ?? 0) + (columns[at + 1][index] ?? 0));
      }
    }
    return [times, ...columns];
  }
}

/** The durations of requests over time: a column for each step, a row for each bucket; darker is more. */
export class HeatMap extends Card {
  constructor(title, options) {
    super(title, options.note);
    this.options = options;
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.picture.append(this.canvas);
    new ResizeObserver(() => this.draw()).observe(this.picture);
  }

  update(steps, bounds) {
    this.steps = steps;
    this.bounds = bounds;
    this.state(this.options.say(steps));
    this.draw();
    if (this.details.open) this.fillTable();
  }

  draw() {
    const width = this.picture.clientWidth;
    const height = 170;
    if (!width || !this.bounds) return;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const left = 64;
    const bottom = 18;
    const rows = this.bounds.length;
    const rowHeight = (height - bottom) / rows;
    const columnWidth = (width - left) / Math.max(this.steps.length, 1);
    const most = Math.max(1, ...this.steps.flatMap((step) => step.counts));
    context.font = "12px system-ui";
    context.fillStyle = colour("muted");
    context.textAlign = "right";
    this.bounds.forEach((bound, row) => {
      const y = height - bottom - (row + 0.5) * rowHeight + 4;
      if (rows <= 12 || row % 2 === 0) context.fillText(this.options.format(bound), left - 8, y);
    });
    context.textAlign = "center";
    const every = Math.max(1, Math.round(this.steps.length / 5));
    this.steps.forEach((step, column) => {
      const x = left + column * columnWidth;
      context.fillStyle = colour("heat");
      step.counts.forEach((value, row) => {
        if (!value) return;
        context.globalAlpha = 0.12 + 0.88 * Math.sqrt(value / most);
        context.fillRect(x, height - bottom - (row + 1) * rowHeight + 1, Math.max(columnWidth - 0.5, 1), rowHeight - 1);
      });
      context.globalAlpha = 1;
      if (column % every === Math.floor(every / 2)) {
        context.fillStyle = colour("muted");
        context.fillText(clock(step.time).slice(0, 5), x + columnWidth / 2, height - 3);
      }
    });
  }

  fillTable() {
    const shown = this.steps.slice(-tableRows).reverse();
    this.setTable(
      ["Time", ...this.bounds.map((bound) => this.options.format(bound))],
      shown.map((step) => [clock(step.time), ...step.counts.map(String)]),
    );
  }
}

/** Return a small line of values for a cell of a table. The numbers beside it say the same. */
export function sparkline(values, width = 96, height = 22) {
  const known = values.map((value) => value ?? 0);
  const most = Math.max(...known, 1e-9);
  const step = width / Math.max(known.length - 1, 1);
  const points = known.map((value, at) => `${(at * step).toFixed(1)},${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  return makeSvg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true", focusable: "false" },
    makeSvg("polyline", { points: points.join(" ") }),
  );
}
