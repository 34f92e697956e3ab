// Charts over time: lines and stacked areas by uPlot, a heat map, and small lines in tables.
//
// Each chart has a sentence that states what it shows (its aria-label), and a table with the same numbers.

import { clock, make, makeSvg, setText } from "./text.js";

const tableRows = 12;
const axisWidth = 64;
const font = "12px system-ui, sans-serif";

/** Return the colour of a CSS variable as the page has it now, in light or dark. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const shortClock = (time) => clock(time).slice(0, 5);

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string} colour The name of a CSS variable.
 * @property {(step: object) => (number|null)} value
 * @property {(value: number) => string} [write] How a value is written; as on the axis if left out.
 * @property {number[]} [dash]
 */

/** A card with a heading, the current finding, a picture, and a table of the same numbers. */
export class Card {
  constructor(title, { note, place } = {}) {
    this.title = title;
    this.steps = [];
    this.finding = make("p.finding");
    this.picture = make("div.picture", { role: "img" });
    this.rows = make("tbody");
    this.head = make("tr");
    const table = make("table", {}, make("caption.hidden", {}, title), make("thead", {}, this.head), this.rows);
    const scroller = make("div.scroller", { tabindex: "0", role: "region", "aria-label": `Numbers of ${title}` }, table);
    this.details = make("details", {}, make("summary", {}, "Numbers"), scroller);
    this.details.addEventListener("toggle", () => this.#showNumbers());
    this.readout = make("span.note", {}, note ?? "");
    this.note = note ?? "";
    this.element = make(
      "section.card",
      { "aria-label": title, id: place, tabindex: place ? "-1" : null },
      make("h2", {}, `${title} `, this.readout),
      this.finding,
      this.picture,
      this.details,
    );
    // A picture that is drawn while its width is being announced would announce another one.
    this.observer = new ResizeObserver(() => requestAnimationFrame(() => this.draw()));
    this.observer.observe(this.picture);
  }

  /** Show other steps, and the sentence that says what they mean. */
  update(steps, sentence) {
    this.steps = steps;
    setText(this.finding, sentence);
    this.picture.setAttribute("aria-label", `${this.title}. ${sentence}`);
    this.draw();
    this.#showNumbers();
  }

  close() {
    this.observer.disconnect();
  }

  #showNumbers() {
    if (!this.details.open) return;
    const [names, lines] = this.numbers(this.steps.slice(-tableRows).reverse());
    this.head.replaceChildren(...names.map((name, at) => make(at ? "th.number" : "th", { scope: "col" }, name)));
    this.rows.replaceChildren(
      ...lines.map(([first, ...cells]) => make("tr", {}, make("th", { scope: "row" }, first), ...cells.map((cell) => make("td.number", {}, cell)))),
    );
  }
}

export class TimeChart extends Card {
  /**
   * @param {string} title
   * @param {Series[]} series
   * @param {{format: (value: number) => string, say: (steps: object[]) => string, stacked?: boolean, note?: string,
   *     place?: string, height?: number, least?: number}} options The member "least" is the least value at the top.
   */
  constructor(title, series, options) {
    super(title, options);
    this.series = series;
    this.options = options;
    this.plot = null;
    this.size = "";
  }

  update(steps) {
    super.update(steps, this.options.say(steps));
  }

  close() {
    super.close();
    this.plot?.destroy();
    this.plot = null;
  }

  /** Draw the colours anew. */
  redraw() {
    this.plot?.destroy();
    this.plot = null;
    this.draw();
  }

  draw() {
    const width = this.picture.clientWidth;
    if (!width || !this.steps.length) return;
    const { height = 170 } = this.options;
    if (!this.plot) this.plot = new uPlot(this.#settings(width, height), this.#data(), this.picture);
    else {
      if (this.plot.width !== width) this.plot.setSize({ width, height });
      this.plot.setData(this.#data());
    }
    // Without a pointer over a chart, its legend has the latest values.
    if (this.plot.cursor.idx == null) this.plot.setLegend({ idx: null });
  }

  numbers(steps) {
    const lines = steps.map((step) => [clock(step.time), ...this.series.map((each) => this.#text(each, step))]);
    return [["Time", ...this.series.map((each) => each.name)], lines];
  }

  #text(series, step) {
    const value = step ? series.value(step) : null;
    return value == null ? "–" : (series.write ?? this.options.format)(value);
  }

  #settings(width, height) {
    const { format, stacked, least = 0 } = this.options;
    const line = { stroke: colour("muted"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font };
    const stepAt = (index) => this.steps[index ?? this.steps.length - 1];
    return {
      width,
      height,
      legend: { live: true },
      cursor: { y: false, points: { size: 6 }, sync: { key: "time" }, drag: { x: false, y: false } },
      scales: { x: { range: (_plot, low, high) => (this.steps.length > 1 ? [low, high] : [low - 60, low]) }, y: { range: (_plot, low, high) => [Math.min(low * 1.1, 0), low < 0 ? Math.max(high * 1.1, 0) : Math.max(high * 1.1 || 1, least)] } },
      axes: [
        { ...line, size: 28, grid: { show: false }, space: 70, values: (_plot, times) => times.map(this.#isShort() ? clock : shortClock) },
        { ...line, size: axisWidth, values: (_plot, values) => values.map(format) },
      ],
      series: [
        { label: "Time", class: "time", value: (_plot, _time, _series, index) => (stepAt(index) ? clock(stepAt(index).time) : "–") },
        ...this.series.map((each) => ({
          label: each.name,
          stroke: colour(each.colour),
          width: stacked ? 0.5 : 1.5,
          dash: each.dash,
          fill: stacked ? colour(each.colour) : undefined,
          spanGaps: false,
          points: { show: this.steps.length < 3, size: 4 },
          value: (_plot, _value, _series, index) => this.#text(each, stepAt(index)),
        })),
      ],
    };
  }

  #isShort() {
    return this.steps.at(-1).time - this.steps[0].time < 240;
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

/** Requests per second by their duration, over time: a column for each step, a row for each bucket; a stronger colour is more. */
export class HeatMap extends Card {
  /** @param {{format: (bound: number|null) => string, formatRate: (rate: number) => string, note: string}} options */
  constructor(title, options) {
    super(title, options);
    this.options = options;
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("pointerleave", () => setText(this.readout, this.note));
    this.picture.append(this.canvas);
  }

  update(steps, bounds, sentence) {
    this.bounds = bounds;
    super.update(steps.filter((step) => step.counts.length === bounds.length), sentence);
  }

  redraw() {
    this.draw();
  }

  draw() {
    const { steps, bounds } = this;
    const { clientWidth: width } = this.picture;
    if (!width || !bounds || !steps.length) return;
    const area = (this.area = this.#area(width));
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = area.height * scale;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = font;
    const rates = steps.map((step) => step.counts.map((value) => value / step.elapsed));
    const most = Math.max(1e-9, ...rates.flat());
    context.fillStyle = colour("heat");
    rates.forEach((column, at) => {
      const left = area.x(steps[at].time - steps[at].elapsed);
      const columnWidth = area.x(steps[at].time) - left;
      column.forEach((value, row) => {
        if (!value) return;
        context.globalAlpha = 0.1 + 0.9 * Math.sqrt(value / most);
        context.fillRect(left, area.y(row + 1) + 1, columnWidth > 3 ? columnWidth - 0.5 : columnWidth, area.rowHeight - 1);
      });
    });
    context.globalAlpha = 1;
    context.fillStyle = colour("muted");
    context.textAlign = "right";
    bounds.forEach((bound, row) => {
      if (bounds.length <= 12 || row % 2 === 0) context.fillText(this.options.format(bound), axisWidth - 8, area.y(row + 0.5) + 4);
    });
    context.textAlign = "center";
    const span = area.last - area.first;
    const every = [5, 15, 30, 60, 120, 300, 600].find((each) => (span / each) * 70 <= width - axisWidth) ?? 900;
    for (let time = Math.ceil(area.first / every) * every; time <= area.last; time += every) {
      if (area.x(time) < width - 24) context.fillText((every < 60 ? clock : shortClock)(time), area.x(time), area.height - 4);
    }
  }

  numbers(steps) {
    const lines = steps.map((step) => [clock(step.time), ...step.counts.map((value) => this.options.formatRate(value / step.elapsed))]);
    return [["Time", ...this.bounds.map((bound) => this.options.format(bound))], lines];
  }

  /** Return where the times and the buckets are on a picture of some width. */
  #area(width) {
    const height = 200;
    const bottom = 20;
    const first = this.steps[0].time - this.steps[0].elapsed;
    const last = this.steps.at(-1).time;
    const rowHeight = (height - bottom) / this.bounds.length;
    const x = (time) => axisWidth + ((time - first) / (last - first || 1)) * (width - axisWidth);
    return { height, bottom, first, last, rowHeight, x, y: (row) => height - bottom - row * rowHeight };
  }

  #point(event) {
    if (!this.area) return;
    const step = this.steps.find((each) => this.area.x(each.time) >= event.offsetX);
    const row = Math.floor((this.area.height - this.area.bottom - event.offsetY) / this.area.rowHeight);
    if (!step || event.offsetX < axisWidth || row < 0 || row >= this.bounds.length) setText(this.readout, this.note);
    else {
      const found = this.options.formatRate(step.counts[row] / step.elapsed);
      setText(this.readout, `${clock(step.time)}, ${this.options.format(this.bounds[row])}: ${found} per second`);
    }
  }
}

/** Return a small line of [time, value] for a cell of a table. The numbers beside it say the same. */
export function sparkline(points, width = 96, height = 22) {
  const most = Math.max(...points.map(([, value]) => value), 1e-9);
  const first = points[0]?.[0] ?? 0;
  const span = (points.at(-1)?.[0] ?? 0) - first || 1;
  const text = points.map(([time, value]) => `${(((time - first) / span) * width).toFixed(1)},${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  return makeSvg(
    "svg",
    { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true", focusable: "false" },
    makeSvg("polyline", { points: text.join(" ") }),
  );
}
