// The last refusals, each with its explanation.

import { at, code, h, plural, quiet, replace, search, short, told } from "./dom.js";
import { explained, link } from "./explanation.js";
import { get } from "./server.js";

const MOST = 1000;
const FIRST = 150;
const KINDS = [["", "all"], ["401", "401 not authenticated"], ["403", "403 not permitted"], ["504", "504 unavailable"], ["400", "400 ambiguous"]];

let all;
let parts;
let wanted = { q: "", status: "", open: "" };
let room = FIRST;

/** What comes while another view is shown is not missed. */
export function remember({ refusals }) {
  if (!all || !refusals?.length) return;
  const known = new Set(all.slice(0, 400).map((one) => one.request_id));
  all = [...refusals.filter((one) => !known.has(one.request_id)), ...all].slice(0, MOST);
}

export async function show(view, query) {
  wanted = { q: query.get("q") ?? "", status: query.get("status") ?? "", open: query.get("id") ?? "" };
  room = FIRST;
  all = (await get("/api/refusals")).refusals;
  const field = search("Search client, path, reason, rule, request id", wanted.q, (text) => { wanted.q = text; list(); });
  const kinds = h("select", { "aria-label": "Which refusals", onchange: (event) => { wanted.status = event.target.value; list(); } },
    KINDS.map(([value, name]) => h("option", { value, selected: value === wanted.status }, name)));
  parts = {
    count: h("p", { class: "count", role: "status" }),
    rows: h("tbody"),
    more: h("div", { class: "row" }),
    detail: h("section", { class: "detail", "aria-label": "Explanation", tabindex: "-1" }, h("p", { class: "calm" }, "Choose a refusal to see its explanation.")),
  };
  const heads = ["When", "Client", "Request", "Answer", "Rule"].map((name) => h("th", { scope: "col" }, name));
  const table = h("table", { class: "list" }, h("caption", { class: "hidden" }, "Refusals, the newest first"), h("thead", {}, h("tr", {}, heads)), parts.rows);
  replace(view, h("h1", {}, "Refusals"), h("div", { class: "row tools" }, field, kinds, parts.count),
    h("div", { class: "beside" }, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "List of refusals" }, table, parts.more), parts.detail));
  list();
  if (wanted.open) await open(wanted.open);
}

export function tell({ refusals }) {
  if (parts && refusals?.length) list();
}

function matching() {
  const words = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  return all.filter((one) => {
    if (wanted.status && String(one.status) !== wanted.status) return false;
    const text = [one.client, one.method, one.path, one.source, one.request_id, one.status, one.reason, one.detail, one.rule?.name].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

function list() {
  const found = matching();
  parts.count.textContent = found.length === all.length ? plural(all.length, "refusal") : `${found.length} of ${plural(all.length, "refusal")}`;
  const focused = document.activeElement?.dataset.id;
  replace(parts.rows, found.slice(0, room).map(row));
  // A keyboard user keeps the focus when new refusals come.
  if (focused) parts.rows.querySelector(`[data-id="${focused}"]`)?.focus({ preventScroll: true });
  if (!found.length) replace(parts.rows, h("tr", {}, h("td", { colspan: "5", class: "calm" }, all.length ? "No refusal matches." : "No request was refused so far.")));
  const more = h("button", { type: "button", onclick: () => { room = MOST; list(); } }, `Show all ${found.length}`);
  replace(parts.more, found.length > room && more);
}

function row(one) {
  const name = one.client ? short(one.client) : "nobody";
  const chosen = wanted.open === one.request_id;
  const button = h("button", { type: "button", class: "link", "data-id": one.request_id, "aria-pressed": String(chosen), onclick: (event) => { event.stopPropagation(); open(one.request_id); } }, at(one.at), quiet(", explain"));
  return h("tr", { class: chosen ? "chosen" : undefined, onclick: () => open(one.request_id) },
    h("td", {}, button),
    h("td", { title: one.client ?? "" }, name, !one.authenticated && one.client && h("span", { class: "note" }, " (unverified)")),
    h("td", { class: "request" }, one.method ? code(`${one.method} ${one.path}`) : "not HTTP"),
    h("td", {}, h("span", { class: `tag s${one.status}` }, String(one.status)), " ", one.reason.replaceAll("_", " ")),
    h("td", {}, one.rule ? code(one.rule.name) : ""));
}

async function open(id) {
  wanted.open = id;
  list();
  let told;
  try {
    const answer = await get("/api/refusal", { id });
    told = await detail(answer);
  } catch (error) {
    told = h("p", { class: "bad" }, error.message);
  }
  replace(parts.detail, told);
  parts.detail.focus({ preventScroll: innerWidth > 900 });
}

async function detail({ refusal, explanation, unexplained, incomplete, generation }) {
  const fact = (name, value) => value && [h("dt", {}, name), h("dd", {}, value)];
  return [
    h("h2", {}, refusal.method ? code(`${refusal.method} ${refusal.path}`) : "A connection without HTTP"),
    h("p", {}, h("span", { class: `tag s${refusal.status}` }, String(refusal.status)), " ", refusal.reason.replaceAll("_", " "), ", ", at(refusal.at)),
    h("p", { class: "said" }, h("span", { class: "note" }, "Answer to the client: "), told(refusal.detail)),
    explanation && (await explained(explanation, generation)),
    unexplained && h("p", { class: "calm" }, `There is no explanation by the policy: ${unexplained}.`),
    explanation && refusal.generation !== generation && h("p", { class: "note" }, `Explained by the policy in force now (generation ${generation}); the request was refused under generation ${refusal.generation}.`),
    incomplete && h("p", { class: "note" }, "A part of the request was too long to be kept and is missing here."),
    h("dl", { class: "facts small" },
      fact("Client", refusal.client ? [refusal.client, !refusal.authenticated && " (from its certificate, unverified)"] : "no certificate"),
      fact("From", refusal.source), fact("Request id", code(refusal.request_id)),
      fact("Rule", refusal.rule && [code(refusal.rule.name), " ", link(`${refusal.rule.file}:${refusal.rule.line}`)])),
  ];
}
