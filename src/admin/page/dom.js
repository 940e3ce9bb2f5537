// Elements and words. A text always becomes a text node, so that a name in a certificate can never be markup.

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && typeof value !== "string") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(9).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

export const quiet = (text) => h("span", { class: "hidden" }, text);
export const code = (text) => h("code", {}, text);

const INSTANT = /(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)/;

/** A text of ours with `code` in backticks, and instants in the reader's zone. */
export function told(text) {
  const words = (part) => part.split(INSTANT).map((word, index) => (index % 2 ? at(word) : word));
  return text.split("`").map((part, index) => (index % 2 ? code(part) : words(part)));
}

export function replace(element, ...children) {
  element.replaceChildren(...children.flat(9).filter((child) => child !== undefined && child !== null && child !== false));
}

export function debounced(action, wait = 250) {
  let timer;
  return (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...words), wait);
  };
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });
const both = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const utc = (date) => date.toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");

function time(text, format) {
  const date = new Date(text);
  return h("time", { datetime: date.toISOString(), title: utc(date) }, format.format(date));
}

/** In the reader's zone; UTC where one points at it. */
export function at(text) {
  return time(text, new Date(text).toDateString() === new Date().toDateString() ? clock : both);
}

export const onDay = (text) => time(text, day);

export function duration(seconds) {
  const size = Math.abs(seconds);
  const units = [["year", 31557600], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const index = Math.max(0, units.findIndex(([, length]) => size >= 2 * length));
  const [name, length] = size < 2 ? units[4] : units[index];
  const count = Math.floor(size / length);
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

/** Microseconds, as short as they can be told. */
export function took(microseconds) {
  if (microseconds === null || microseconds === undefined) return "–";
  if (microseconds < 1000) return `${Math.round(microseconds)} µs`;
  if (microseconds < 1e6) return `${(microseconds / 1000).toFixed(microseconds < 1e4 ? 1 : 0)} ms`;
  return `${(microseconds / 1e6).toFixed(1)} s`;
}

export const number = (value) => value.toLocaleString();
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;

/** A search field with its label. */
export function search(label, value, onchange) {
  const field = h("input", { type: "search", "aria-label": label, placeholder: label, spellcheck: "false" });
  field.value = value;
  field.addEventListener("input", debounced(() => onchange(field.value)));
  return field;
}

/** A certificate's subject, its common name first. */
export function short(name) {
  if (!name) return name;
  const common = /(?:^|,)CN=((?:\\.|[^,\\])+)/.exec(name);
  return common ? common[1].replace(/\\(.)/g, "$1") : name;
}
