// The current state, beginning with a summary in words.

import { Chart } from "./charts.js";
import { at, h, number, plural, replace, told, took } from "./dom.js";
import { get } from "./server.js";

const MOST = 900;
const SIGNS = { critical: "✖", warning: "▲", notice: "●", fine: "✔" };
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000];
const COUNT = (value) => (value === null ? "–" : value >= 10000 ? `${Math.round(value / 1000)}k` : number(Math.round(value * 10) / 10));
const sum = (history, reasons) => history.at.map((_, index) => reasons.reduce((all, reason) => all + (history.decisions[reason]?.[index] ?? 0), 0));

let history;
let charts = [];
let parts;

/** Every column of it grows by what the event says, and loses its oldest. */
export function remember({ sample }) {
  if (!history || !sample || sample.at[0] <= history.at.at(-1)) return;
  grow(history, sample);
}

function grow(past, sample) {
  for (const [name, column] of Object.entries(past)) {
    if (Array.isArray(column)) {
      column.push(sample[name]?.[0] ?? null);
      if (column.length > MOST) column.shift();
    } else if (column && typeof column === "object") grow(column, sample[name] ?? {});
  }
}

// The chart of a latency: the median, and the slowest of 100.
function latency(title, of) {
  return new Chart({
    title,
    say: took,
    floor: 100,
    series: [
      { name: "median", colour: "--blue", of: (it) => of(it).p50_us },
      { name: "slowest of 100", colour: "--orange", of: (it) => of(it).p99_us },
    ],
  });
}

const CHARTS = () => [
  new Chart({
    title: "Connections",
    say: COUNT,
    steps: WHOLE,
    series: [
      { name: "with a slot", colour: "--blue", of: (it) => it.slots_used },
      { name: "in the lobby", colour: "--orange", of: (it) => it.lobby },
      { name: "requests in flight", colour: "--green", of: (it) => it.in_flight },
    ],
  }),
  new Chart({
    title: "Decisions per second",
    say: COUNT,
    steps: WHOLE,
    series: [
      { name: "forwarded", colour: "--green", of: (it) => it.decisions.permitted },
      { name: "401 not authenticated", colour: "--purple", of: (it) => sum(it, ["not_authenticated", "invalid_certificate"]) },
      { name: "403 not permitted", colour: "--red", of: (it) => it.decisions.insufficient_permissions },
      { name: "504 unavailable", colour: "--orange", of: (it) => sum(it, ["server_full", "overloaded", "backend_unavailable", "backend_timeout"]) },
      { name: "400, 408, 431", colour: "--blue", of: (it) => sum(it, ["ambiguous_request", "headers_too_large", "request_timeout"]) },
    ],
  }),
  latency("Time added by Sidegate", (it) => it.added),
  latency("Time of the backend", (it) => it.backend),
];

export async function show(view) {
  history = await get("/api/history");
  charts = CHARTS();
  parts = { headlines: h("ul", { class: "headlines", "aria-label": "Summary", "aria-live": "polite" }), tiles: h("dl", { class: "tiles" }) };
  replace(view, h("h1", { class: "hidden" }, "Now"), parts.headlines, parts.tiles, h("div", { class: "charts" }, charts.map((chart) => chart.element)));
  tell({ ...(await get("/api/now")) });
}

export function leave() {
  charts.forEach((chart) => chart.remove());
  charts = [];
}

export function tell(event) {
  if (!parts || !charts.length) return;
  headlines(event.headlines);
  replace(parts.tiles, tiles(event));
  charts.forEach((chart) => chart.draw(history));
}

function headlines(all) {
  const said = JSON.stringify(all);
  if (parts.headlines.dataset.said === said) return;
  parts.headlines.dataset.said = said;
  replace(parts.headlines, all.map(({ level, text, since, view }) =>
    h("li", { class: level }, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[level]), h("strong", { class: "level" }, level),
      h("a", { href: `#/${view}` }, told(text)), since && h("span", { class: "since" }, " since ", at(since)))));
}

function tiles({ slots, lobby, in_flight: flight, backend }) {
  const last = (column) => column?.at(-1) ?? null;
  const minute = (reason) => history.decisions[reason].slice(-60).reduce((all, count) => all + count, 0);
  const refused = Object.keys(history.decisions).filter((reason) => reason !== "permitted").reduce((all, reason) => all + minute(reason), 0);
  const tile = (name, value, more) => h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, h("b", {}, value), more && h("span", {}, more)));
  return [
    tile("Connections", `${number(slots.used)} of ${number(slots.limit)}`, `${number(lobby.connections)} more in the lobby, ${lobby.handshakes} in their handshake`),
    tile("In flight", `${number(flight.used)} of ${number(flight.limit)}`, `${number(flight.queued)} waiting`),
    tile("Forwarded", number(minute("permitted")), "in the last minute"),
    tile("Refused", number(refused), "in the last minute"),
    tile("Sidegate adds", took(last(history.added.p50_us)), `${took(last(history.added.p99_us))} for the slowest of 100`),
    tile("Backend", backend.state, `${took(last(history.backend.p50_us))}, ${took(last(history.backend.p99_us))} for the slowest of 100; ${plural(backend.idle_connections, "idle connection")}`),
  ];
}
