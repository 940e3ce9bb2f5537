// The open connections, each with its client and its state.

import { at, code, duration, h, number, plural, replace, search, short } from "./dom.js";
import { get } from "./server.js";

const STATES = { handshake: "in its handshake", new: "no request yet", reading: "sending a request", busy: "being answered", idle: "idle" };

let fill;
let filled = 0;

export async function show(view, query) {
  let wanted = query.get("q") ?? "";
  const count = h("p", { class: "count", role: "status" });
  const rows = h("tbody");
  const field = search("Search address, client, state, slot or lobby", wanted, (text) => { wanted = text; fill(); });
  const heads = ["Since", "Client", "From", "Protocol", "State", "Requests", "Place"].map((name) => h("th", { scope: "col", class: name === "Requests" ? "number" : undefined }, name));
  replace(view, h("h1", {}, "Connections"), h("div", { class: "row tools" }, field, count),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Open connections" },
      h("table", { class: "list" }, h("caption", { class: "hidden" }, "Open connections, the oldest first"), h("thead", {}, h("tr", {}, heads)), rows)));
  fill = async () => {
    filled = Date.now();
    const found = await get("/connections", { q: wanted, limit: 500 });
    count.textContent = found.matching === found.total ? plural(found.total, "connection") : `${number(found.matching)} of ${plural(found.total, "connection")}`;
    replace(rows, found.connections.map(row));
    if (!found.connections.length) replace(rows, h("tr", {}, h("td", { colspan: "7", class: "calm" }, found.total ? "No connection matches." : "There is no connection.")));
  };
  await fill();
}

export function leave() {
  fill = undefined;
}

export function tell() {
  if (fill && Date.now() - filled > 1900) fill();
}

function row(one) {
  const age = (Date.now() - new Date(one.since)) / 1000;
  const known = one.client ? short(one.client) : "nobody";
  return h("tr", {},
    h("td", {}, at(one.since), h("span", { class: "who" }, `for ${duration(age)}`)),
    h("td", { title: one.client ?? "" }, known, one.unauthenticated && h("span", { class: "who" }, one.unauthenticated), one.grants.length > 0 && h("span", { class: "who" }, one.grants.map((grant, index) => [index > 0 && ", ", code(grant)]))),
    h("td", {}, code(one.source)),
    h("td", {}, one.protocol ?? "–"),
    h("td", {}, STATES[one.state], one.in_progress > 1 && ` (${one.in_progress})`),
    h("td", { class: "number" }, number(one.requests)),
    h("td", {}, h("span", { class: one.slot ? "tag good" : "tag" }, one.slot ? "slot" : "lobby")));
}
