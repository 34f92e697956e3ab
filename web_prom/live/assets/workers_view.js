// Workers: what each costs, and the sockets that requests wait at.

import { TimeChart } from "./charts.js";
import { growth, sum } from "./model.js";
import { card, numberColumn } from "./parts.js";
import { Table } from "./table.js";
import { age, bytes, count, make, percent, setText } from "./text.js";

export class WorkersView {
  constructor(store) {
    this.store = store;
    this.note = make("span.note");
    this.workers = this.#workers(false);
    this.holder = make("div", {}, this.workers.element);
    this.charts = [
      new TimeChart("Processor", [{ name: "all workers, of one core", colour: "line-b", value: (step) => step.cpu }], {
        format: percent,
        place: "processor",
        least: 0.1,
        say: (steps) => (steps.at(-1)?.cpu == null ? "The processor time is not known yet." : `The workers use ${percent(steps.at(-1).cpu)} of one core.`),
      }),
      new TimeChart("Memory", [{ name: "all workers", colour: "line-a", value: (step) => step.memory }], {
        format: bytes,
        place: "memory",
        least: 1e6,
        say: (steps) => (steps.at(-1)?.memory == null ? "The memory is not known." : `The workers hold ${bytes(steps.at(-1).memory)}, with what they share counted for each.`),
      }),
    ];
    this.listeners = new Table("Sockets", [
      { name: "Address", value: (row) => row.listener, show: (row) => make("code", {}, row.listener) },
      numberColumn("Waiting", (row) => row.waiting),
      numberColumn("Limit", (row) => row.limit),
    ], { sortBy: 1, empty: "The backlog of the listening sockets is not known here." });
    this.refused = make("p.finding");
    this.element = make(
      "div.cards",
      {},
      card("Workers", { note: this.note, place: "workers" }, this.holder),
      ...this.charts.map((chart) => chart.element),
      card("Connections that wait for a worker", { place: "sockets" }, this.refused, this.listeners.element),
    );
  }

  update() {
    const { latest } = this.store;
    const rows = this.#rows();
    const hasRequests = rows.some((row) => row.requests != null);
    if (hasRequests && !this.hasRequests) {
      this.hasRequests = true;
      this.workers = this.#workers(true);
      this.holder.replaceChildren(this.workers.element);
    }
    const capacity = rows.some((row) => row.capacity == null) ? "capacity not known for each" : "";
    setText(this.note, [`${count(rows.length)} ${rows.length === 1 ? "process" : "processes"}`, capacity].filter(Boolean).join(" · "));
    this.workers.update(rows);
    const steps = this.store.steps();
    for (const chart of this.charts) chart.update(steps);
    this.listeners.update(latest.server.listeners);
    const refused = latest.server.listen_overflows;
    setText(this.refused, refused == null ? "" : this.#refusedText(refused));
  }

  /** Say how many connections were refused. The kernel counts since it started, for all programs. */
  #refusedText(all) {
    const { sections } = this.store;
    const [first] = sections;
    const refused = sum(sections.slice(1).map((now, at) => growth(now.server.listen_overflows ?? 0, sections[at].server.listen_overflows ?? 0)));
    const since = `in the last ${age(this.store.latest.time - first.time)}`;
    const news = sections.length < 2 ? "" : refused ? `The kernel refused ${count(refused)} connections ${since} because a queue was full. ` : `The kernel refused no connection ${since}. `;
    return `${news}Since this host or container started, it refused ${count(all)} connections to all programs.`;
  }

  redraw() {
    for (const chart of this.charts) chart.redraw();
  }

  close() {
    for (const chart of this.charts) chart.close();
  }

  #workers(hasRequests) {
    const columns = [
      { name: "Worker", value: (row) => row.worker, show: (row) => row.worker || "this process" },
      numberColumn("Processor", (row) => row.cpu, percent, "Of one core, since the page is open, for at most 15 minutes"),
      numberColumn("Memory", (row) => row.resident_bytes, bytes),
      numberColumn("Open files", (row) => row.open_fds),
      numberColumn("Capacity", (row) => row.capacity, count, "Requests that it serves at once"),
      numberColumn("Age", (row) => row.age, age),
      numberColumn("Restarts", (row) => row.restarts, count, "Since this page is open"),
    ];
    if (hasRequests) columns.splice(1, 0, numberColumn("Requests", (row) => row.requests));
    return new Table("Workers", columns, { sortBy: 0, descending: false, empty: "The service tells nothing about its processes." });
  }

  /** Return the workers with their processor time and restarts in the snapshots that the page has. */
  #rows() {
    const { latest, sections } = this.store;
    return latest.workers.map((worker) => {
      const past = sections
        .map(({ time, workers }) => ({ time, ...workers.find((each) => each.worker === worker.worker) }))
        .filter((each) => each.worker !== undefined);
      let restarts = 0;
      let seconds = 0;
      past.slice(1).forEach((now, at) => {
        const before = past[at];
        if (now.start_time != null && before.start_time != null && now.start_time > before.start_time + 0.5) restarts += 1;
        seconds += growth(now.cpu_seconds, before.cpu_seconds);
      });
      const elapsed = past.length > 1 ? past.at(-1).time - past[0].time : 0;
      return {
        ...worker,
        cpu: elapsed && worker.cpu_seconds != null ? seconds / elapsed : null,
        restarts,
        age: worker.start_time == null ? null : Math.max(latest.time - worker.start_time, 0),
      };
    });
  }
}
