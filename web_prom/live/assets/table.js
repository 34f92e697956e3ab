// Tables that can be sorted by each column and filtered by text, with the keyboard too.

import { make } from "./text.js";

/**
 * @typedef {object} Column
 * @property {string} name The heading.
 * @property {(row: object) => (number|string|null)} value What the column is sorted by.
 * @property {(row: object) => (string|Node)} [show] What a cell shows; the value itself if left out.
 * @property {string} [kind] "number" for figures, which are aligned to the right; "trend" for small lines.
 * @property {string} [title] An explanation of the heading.
 */

export class Table {
  /**
   * @param {string} label What the table is, for screen readers.
   * @param {Column[]} columns
   * @param {{sortBy?: number, descending?: boolean, empty?: string, filter?: string, limit?: number, rest?: string}} options The member "rest" says what is missing after the last row.
   */
  constructor(label, columns, options = {}) {
    this.columns = columns;
    this.options = options;
    this.rows = [];
    this.sortBy = options.sortBy ?? 0;
    this.descending = options.descending ?? true;
    this.wanted = "";
    this.all = false;
    this.heads = columns.map((column, at) => this.#head(column, at));
    this.body = make("tbody");
    this.more = make("button.more", { type: "button", hidden: true, onclick: () => this.#showAll() });
    this.note = make("p.empty", { hidden: true });
    this.rest = make("p.note", { hidden: true }, options.rest ?? "");
    const table = make("table", { "aria-label": label }, make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    const scroller = make("div.scroller", { tabindex: "0", role: "region", "aria-label": `Table: ${label}` }, table);
    this.element = make("div.table", {}, options.filter ? this.#filter(options.filter) : null, scroller, this.note, this.more, this.rest);
  }

  /** Show other rows. The order and the filter stay. */
  update(rows) {
    this.rows = rows;
    this.#draw();
  }

  #head(column, at) {
    const button = make("button", { type: "button", title: column.title, onclick: () => this.#sort(at) }, column.name);
    return make(column.kind ? `th.${column.kind}` : "th", { scope: "col" }, button);
  }

  #filter(label) {
    const input = make("input", {
      type: "search",
      placeholder: label,
      "aria-label": label,
      oninput: () => {
        this.wanted = input.value.trim().toLowerCase();
        this.#draw();
      },
    });
    return input;
  }

  #sort(at) {
    this.descending = this.sortBy === at ? !this.descending : this.columns[at].kind === "number";
    this.sortBy = at;
    this.#draw();
  }

  #showAll() {
    this.all = true;
    this.#draw();
  }

  #draw() {
    const { value } = this.columns[this.sortBy];
    const sign = this.descending ? -1 : 1;
    const shown = this.rows
      .filter((row) => !this.wanted || this.#textOf(row).includes(this.wanted))
      .sort((one, other) => sign * compare(value(one), value(other)));
    const limit = this.all ? shown.length : (this.options.limit ?? shown.length);
    this.heads.forEach((head, at) => {
      if (at === this.sortBy) head.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.body.replaceChildren(...shown.slice(0, limit).map((row) => this.#line(row)));
    if (focused) this.body.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
    this.more.hidden = shown.length <= limit;
    this.rest.hidden = !this.options.rest || shown.length > limit;
    this.more.textContent = `Show ${this.options.rest ? "" : "all "}${shown.length} rows`;
    this.note.hidden = shown.length > 0;
    this.note.textContent = this.rows.length ? "No row contains this text." : (this.options.empty ?? "Nothing yet.");
  }

  #textOf(row) {
    return this.columns.map((column) => column.value(row) ?? "").join(" ").toLowerCase();
  }

  #line(row) {
    return make(
      "tr",
      {},
      ...this.columns.map((column, at) => {
        const shown = column.show ? column.show(row) : String(column.value(row) ?? "–");
        const tag = at === 0 ? "th" : "td";
        return make(column.kind ? `${tag}.${column.kind}` : tag, at === 0 ? { scope: "row" } : {}, shown);
      }),
    );
  }
}

/** Compare two values of a column. What is unknown is the least. */
function compare(one, other) {
  if (one == null || other == null) return (one == null ? 0 : 1) - (other == null ? 0 : 1);
  if (typeof one === "number") return one - other;
  return String(one).localeCompare(String(other));
}
