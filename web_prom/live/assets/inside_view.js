// What happens inside requests: databases, pools, caches and outgoing calls, where they are measured.

import { growthOfRows, sum } from "./model.js";
import { bar, card, marked, numberColumn } from "./parts.js";
import { Table } from "./table.js";
import { age, count, duration, make, percent, rate, setText } from "./text.js";

const text = (name, member) => ({ name, value: (row) => row[member], show: (row) => row[member] || "–" });
const perSecond = { name: "Per second", kind: "number", value: (row) => row.rate ?? row.count, show: (row) => (row.rate == null ? `${count(row.count)} in all` : rate(row.rate)) };
const mean = numberColumn("Mean", (row) => (row.count ? row.seconds / row.count : null), duration);
const share = { name: "Time", kind: "number", value: (row) => row.share, show: (row) => bar(row.share), title: "Share of the time of all rows" };
const hits = ({ results: { hit = 0, miss = 0 } }) => (hit + miss ? hit / (hit + miss) : null);
const failures = { name: "Error", value: (row) => row.error, show: (row) => marked(row.error || "–", row.error) };

const parts = [
  {
    member: "databases",
    title: "Database operations",
    names: ["system", "namespace", "operation", "error"],
    setting: "PROM_DATABASE",
    columns: [
      { name: "Database", value: (row) => `${row.system} ${row.namespace}`.trim() },
      text("Operation", "operation"),
      failures,
      perSecond,
      mean,
      share,
    ],
  },
  {
    member: "pools",
    title: "Connection pools",
    names: ["pool"],
    setting: "PROM_DATABASE",
    isState: true,
    columns: [
      text("Pool", "pool"),
      { name: "In use", kind: "number", value: (row) => row.used, show: (row) => (row.max ? bar(row.used / row.max) : count(row.used)) },
      numberColumn("Used", (row) => row.used),
      numberColumn("Idle", (row) => row.idle),
      numberColumn("Most", (row) => row.max),
      { name: "Waiting", kind: "number", value: (row) => row.pending, show: (row) => marked(count(row.pending), row.pending > 0) },
      { name: "Timeouts", kind: "number", value: (row) => row.timeouts, show: (row) => marked(count(row.timeouts), row.timeouts > 0), title: "In the window" },
    ],
  },
  {
    member: "caches",
    title: "Caches",
    names: ["cache", "operation"],
    setting: "PROM_CACHE",
    columns: [
      text("Cache", "cache"),
      text("Operation", "operation"),
      numberColumn("Hits", hits, percent, "Share of the keys that were found"),
      { name: "Errors", kind: "number", value: (row) => row.results.error ?? 0, show: (row) => marked(count(row.results.error ?? 0), row.results.error) },
      perSecond,
      mean,
      share,
    ],
  },
  {
    member: "calls",
    title: "Outgoing calls",
    names: ["method", "address", "status", "error"],
    setting: "PROM_HTTP_CLIENT",
    columns: [text("Address", "address"), text("Method", "method"), text("Status", "status"), failures, perSecond, mean, share],
  },
];

export class InsideView {
  constructor(store) {
    this.store = store;
    this.cards = parts.map((part) => {
      const note = make("span.note");
      const table = new Table(part.title, part.columns, { sortBy: part.isState ? 0 : part.columns.length - 1, descending: !part.isState, limit: 25, empty: `Nothing is measured. ${part.setting} switches it on.` });
      return { ...part, note, table, element: card(part.title, { note, place: part.member }, table.element) };
    });
    this.element = make("div.cards", {}, ...this.cards.map((each) => each.element));
  }

  update(windowSeconds) {
    const { latest } = this.store;
    const before = this.store.snapshotBefore(windowSeconds);
    const elapsed = before ? latest.time - before.time : 0;
    for (const { member, names, isState, note, table } of this.cards) {
      const rows = growthOfRows(latest[member], before?.[member], names, isState ? ["timeouts"] : ["count", "seconds", "results"]);
      const all = sum(rows.map((row) => row.seconds ?? 0));
      for (const row of rows) {
        row.rate = elapsed ? row.count / elapsed : null;
        row.share = all ? row.seconds / all : null;
      }
      const period = elapsed ? `the last ${age(elapsed)}` : "since the service started";
      setText(note, !rows.length ? "not measured" : isState ? "now" : period);
      table.update(isState || !before ? rows : rows.filter((row) => row.count > 0 || !(latest[member].length > 25)));
    }
  }

  redraw() {}

  close() {}
}
