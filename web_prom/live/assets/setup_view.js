// The set-up: what is right, and what to change.

import { Statements } from "./parts.js";
import { make, setText } from "./text.js";

export class SetupView {
  constructor(store) {
    this.store = store;
    this.list = new Statements("Set-up");
    this.finding = make("p.finding");
    this.element = make("div", {}, this.finding, this.list.element);
  }

  update() {
    const { checks } = this.store.latest;
    const wrong = checks.filter((check) => check.ok === false).length;
    const right = checks.filter((check) => check.ok).length;
    setText(this.finding, checks.length ? `${right} of ${checks.length} checks are right${wrong ? `, ${wrong} ask for a change` : ""}.` : "The service checks nothing of its set-up here.");
    const kinds = { true: ["ok", "OK"], false: ["warning", "Change"] };
    this.list.update(
      [...checks]
        .sort((one, other) => Number(one.ok ?? 0.5) - Number(other.ok ?? 0.5))
        .map((check) => {
          const [severity, word] = kinds[check.ok] ?? ["info", "Unknown"];
          return { ...check, severity, word, isCheck: true };
        }),
    );
  }

  redraw() {}

  close() {}
}
