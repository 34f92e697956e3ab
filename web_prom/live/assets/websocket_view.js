// WebSockets: how many are open, their messages, and how they end. The history does not have them.

import { TimeChart } from "./charts.js";
import { growth, growthOfCounts, growthOfRows, quantile, sum, total } from "./model.js";
import { card, estimate, marked, numberColumn } from "./parts.js";
import { Table } from "./table.js";
import { age, count, duration, make, rate, setText } from "./text.js";

const waiting = "The chart begins with the next snapshot.";
const failed = "1011"; // the application raised an exception

export class WebSocketView {
  constructor(store) {
    this.store = store;
    this.note = make("span.note");
    this.charts = [
      new TimeChart("Open WebSockets", [{ name: "open", colour: "line-a", value: (step) => step.open }], {
        format: count,
        place: "websockets",
        say: (steps) => `${count(this.store.latest.websockets.in_progress)} open now.${steps.length ? "" : ` ${waiting}`}`,
      }),
      new TimeChart("WebSocket messages per second", [
        { name: "received", colour: "line-a", value: (step) => step.received },
        { name: "sent", colour: "line-b", value: (step) => step.sent, dash: [8, 3] },
      ], {
        format: rate,
        say: (steps) => (steps.length ? `${rate(steps.at(-1).received)} received and ${rate(steps.at(-1).sent)} sent per second now.` : waiting),
      }),
    ];
    const bounds = () => this.store.latest.websockets.buckets;
    const perSecond = (row, member) => (row.elapsed ? row[member] / row.elapsed : null);
    this.table = new Table("WebSockets", [
      { name: "Route", value: (row) => row.route, show: (row) => row.route },
      numberColumn("Ended", (row) => row.ended, count, "Connections that came to their end"),
      { name: "Failed", kind: "number", value: (row) => row.codes[failed] ?? 0, show: (row) => marked(count(row.codes[failed] ?? 0), row.codes[failed] > 0), title: "Ended with code 1011: the application failed" },
      numberColumn("Rejected", (row) => row.codes._rejected ?? 0, count, "Connections that the application did not accept"),
      numberColumn("Received/s", (row) => perSecond(row, "received"), rate, "Messages from clients"),
      numberColumn("Sent/s", (row) => perSecond(row, "sent"), rate, "Messages to clients"),
      numberColumn("Mean", (row) => (row.ended ? row.seconds / row.ended : null), duration, "How long the connections that ended were open"),
      numberColumn("p95", (row) => quantile(bounds(), row.counts, 0.95), (value) => estimate(bounds(), value, duration), "An estimate from buckets"),
      { name: "Codes", value: (row) => codesOf(row), show: codesOf, title: "Connections by close code" },
    ], { sortBy: 1, limit: 25, empty: "No WebSocket in this window." });
    this.element = make("div.cards", {}, ...this.charts.map((chart) => chart.element), card("WebSockets", { note: this.note }, this.table.element));
  }

  update(windowSeconds) {
    const { latest, sections } = this.store;
    const past = sections.filter((each) => each.websockets);
    for (const chart of this.charts) chart.update(past.slice(1).map((now, at) => stepOf(past[at], now)));
    const before = this.store.snapshotBefore(windowSeconds);
    const former = new Map((before?.websockets?.routes ?? []).map((row) => [row.route, row]));
    const elapsed = before ? latest.time - before.time : 0;
    const rows = growthOfRows(latest.websockets.routes, before?.websockets?.routes, ["route"], ["codes", "received", "sent", "seconds"]).map((row, at) => ({
      ...row,
      elapsed,
      ended: sum(Object.values(row.codes)),
      counts: growthOfCounts(latest.websockets.routes[at].counts, former.get(row.route)?.counts),
    }));
    const { left_out: leftOut } = latest.websockets;
    const rest = leftOut ? ` · without the ${leftOut} routes with the fewest connections` : "";
    setText(this.note, (elapsed ? `the last ${age(elapsed)}` : "since the service started") + rest);
    this.table.update(rows.filter((row) => row.ended || row.received || row.sent));
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }

  close() {
    for (const chart of this.charts) chart.close();
  }
}

function codesOf({ codes }) {
  return Object.entries(codes)
    .filter(([, value]) => value > 0)
    .map(([code, value]) => `${code}: ${count(value)}`)
    .join(", ") || "–";
}

function stepOf(before, now) {
  const elapsed = Math.max(now.time - before.time, 1e-3);
  const messages = (member) => growth(total(now.websockets.routes, member), total(before.websockets.routes, member)) / elapsed;
  return { time: now.time, open: now.websockets.in_progress, received: messages("received"), sent: messages("sent") };
}
