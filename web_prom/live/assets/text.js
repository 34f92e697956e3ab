// How numbers are written, and how elements are made. Nothing here knows what a number means.

const absent = "–";

function trimmed(value, digits) {
  return value.toLocaleString("en", { maximumFractionDigits: digits, minimumFractionDigits: 0 });
}

export function count(value) {
  if (value == null) return absent;
  if (Math.abs(value) >= 1e6) return `${trimmed(value / 1e6, 1)} M`;
  return trimmed(value, value < 10 && value % 1 ? 2 : 0);
}

export function rate(value) {
  if (value == null) return absent;
  if (value >= 1e6) return `${trimmed(value / 1e6, 1)} M`;
  if (value >= 1e4) return `${trimmed(value / 1e3, 1)} k`;
  return trimmed(value, value < 10 ? 2 : value < 100 ? 1 : 0);
}

export function percent(value) {
  if (value == null) return absent;
  const scaled = value * 100;
  if (scaled > 0 && scaled < 0.1) return "< 0.1 %";
  return `${trimmed(scaled, scaled < 10 ? 1 : 0)} %`;
}

export function duration(seconds) {
  if (seconds == null) return absent;
  if (seconds === 0) return "0 ms";
  if (seconds < 1e-3) return `${trimmed(seconds * 1e6, 0)} µs`;
  if (seconds < 1) return `${trimmed(seconds * 1e3, seconds < 0.01 ? 1 : 0)} ms`;
  return `${trimmed(seconds, seconds < 10 ? 2 : 0)} s`;
}

export function age(seconds) {
  if (seconds == null) return absent;
  if (seconds < 120) return `${Math.max(Math.round(seconds), 0)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

export function bytes(value) {
  if (value == null) return absent;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  let scaled = value;
  while (scaled >= 1000 && at < units.length - 1) {
    scaled /= 1000;
    at += 1;
  }
  return `${trimmed(scaled, scaled < 10 && at ? 1 : 0)} ${units[at]}`;
}

/** Return how a value of a unit of Prometheus is written: "seconds", "bytes", "ratio", or another one. */
export function formatOf(unit) {
  return { seconds: duration, bytes, ratio: percent }[unit] ?? rate;
}

export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

/**
 * Make an element. Text is always set as text: nothing that a service sends can become markup.
 *
 * @param {string} name The tag, with classes after dots: "td.number".
 * @param {object} attributes Attributes, and functions as listeners ("onclick").
 * @param {...(Node|string|null)} children
 */
export function make(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value == null || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Set the text of an element, if it is another one: a screen reader speaks a status when it changes. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Make an element of an SVG picture. */
export function makeSvg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
