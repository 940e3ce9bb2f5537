// The matrix of clients and permissions, the text of the policy, and the differences by the shadow policy.

import { at, code, h, number, plural, quiet, replace, search, short, told } from "./dom.js";
import { link, listing } from "./explanation.js";
import { get, sources } from "./server.js";

const STEP = 100;
const CELLS = {
  granted: ["●", "granted"],
  conditional: ["◐", "granted under conditions"],
  restricted: ["◪", "granted, but partly or at times denied"],
  denied: ["✖", "granted, but denied by a rule"],
};
const TABS = [["matrix", "Who may do what"], ["source", "Source"], ["shadow", "Changes by the shadow policy"]];

export async function show(view, query) {
  const tab = query.get("tab") ?? "matrix";
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Parts of the policy" },
    TABS.map(([name, title]) => h("a", { href: `#/policy?tab=${name}`, "aria-current": name === tab ? "true" : undefined }, title)));
  const body = h("div");
  replace(view, h("h1", {}, "Policy"), tabs, body);
  await { matrix, source, shadow }[tab]?.(body, query);
}

async function matrix(body, query) {
  const wanted = { q: query.get("q") ?? "", offset: 0 };
  const count = h("p", { class: "count", role: "status" });
  const place = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Clients and permissions" });
  const pages = h("div", { class: "row" });
  const detail = h("section", { class: "detail", "aria-label": "Explanation of a cell", tabindex: "-1" }, legend());
  const field = search("Search clients, names in certificates, permissions", wanted.q, (text) => { Object.assign(wanted, { q: text, offset: 0 }); fill(); });
  replace(body, h("div", { class: "row tools" }, field, count), h("div", { class: "beside" }, h("div", {}, place, pages), detail));

  async function fill() {
    const found = await get("/api/matrix", { q: wanted.q, offset: wanted.offset, limit: STEP });
    count.textContent = found.matching === found.total ? plural(found.total, "client entry", "client entries") : `${number(found.matching)} of ${plural(found.total, "client entry", "client entries")}`;
    replace(place, table(found, detail));
    const turn = (name, offset, can) => h("button", { type: "button", disabled: !can, onclick: () => { wanted.offset = offset; fill(); } }, name);
    const last = Math.min(found.offset + STEP, found.matching);
    replace(pages, found.matching > STEP && [turn("Previous", Math.max(0, found.offset - STEP), found.offset > 0), h("span", {}, `${number(found.offset + 1)} to ${number(last)}`), turn("Next", found.offset + STEP, last < found.matching)]);
  }
  await fill();
}

function legend() {
  return [
    h("p", { class: "calm" }, "Choose a cell to see its reasons."),
    h("ul", { class: "key" }, Object.entries(CELLS).map(([state, [sign, words]]) => h("li", {}, h("span", { class: `cell ${state}`, "aria-hidden": "true" }, sign), " ", words))),
    h("p", { class: "note" }, "A row is one client entry. A client that matches several entries gets what all of them give. A deny rule beats every grant."),
  ];
}

function table({ clients, permissions }, detail) {
  if (!clients.length) return h("p", { class: "calm" }, "No client entry matches.");
  const used = permissions.map((_, index) => index).filter((index) => clients.some((client) => client.cells[index]));
  const head = h("tr", {}, h("th", { scope: "col" }, "Client"), used.map((index) => h("th", { scope: "col", class: "turned" }, h("span", {}, permissions[index]))));
  const rows = clients.map((client) => h("tr", {},
    h("th", { scope: "row", title: client.who.join("\nor ") }, code(client.name), h("span", { class: "who" }, told(client.who.join(", or ")))),
    used.map((index) => cell(client, permissions[index], client.cells[index], detail))));
  return h("table", { class: "matrix" }, h("caption", { class: "hidden" }, "Client entries and their permissions"), h("thead", {}, head), h("tbody", {}, rows));
}

function cell(client, permission, state, detail) {
  if (!state) return h("td", {}, h("span", { class: "none", "aria-hidden": "true" }, "·"), quiet("not granted"));
  const [sign, words] = CELLS[state];
  const name = `${client.name}, ${permission}: ${words}`;
  const button = h("button", { type: "button", class: `cell ${state}`, title: name, "aria-label": name, onclick: () => behind(client, permission, button, detail) }, sign);
  return h("td", {}, button);
}

async function behind(client, permission, button, detail) {
  document.querySelectorAll("button.cell[aria-pressed]").forEach((other) => other.removeAttribute("aria-pressed"));
  button.setAttribute("aria-pressed", "true");
  const { state, roles, routes, denies } = await get("/api/grant", { client: client.name, permission });
  const [sign, words] = CELLS[state];
  replace(detail,
    h("h2", {}, code(client.name), " · ", code(permission)),
    h("p", { class: "verdict" }, h("span", { class: `cell ${state}`, "aria-hidden": "true" }, sign), " ", h("b", {}, words)),
    h("dl", { class: "facts" },
      h("dt", {}, "Certificate"), client.who.map((who) => h("dd", {}, told(who))),
      h("dt", {}, "Through"), h("dd", {}, code(client.name), " ", link(client.at), roles.map((role) => [" → role ", code(role)])),
      h("dt", {}, plural(routes.length, "Route")), routes.map((route) => h("dd", {}, code(route.route), " ", link(route.at), route.conditions.map((condition) => h("div", { class: "condition" }, "only if ", told(condition))))),
      denies.length > 0 && [h("dt", {}, "Denied by"), denies.map((deny) => h("dd", {}, code(deny.name), " ", link(deny.at), deny.whole ? "" : " (some of its routes)", deny.while.map((when) => h("div", { class: "condition" }, "while ", told(when))), deny.if.map((condition) => h("div", { class: "condition" }, "if ", told(condition)))))],
    ),
    h("p", {}, h("a", { href: `#/playground?entry=${encodeURIComponent(client.name)}` }, "Ask a question as this client")));
}

async function source(body, query) {
  const { files, generation } = await sources();
  const file = files.find((one) => one.file === query.get("file")) ?? files[0];
  const line = Number(query.get("line")) || 0;
  const lines = file.text.replace(/\n$/, "").split("\n");
  const choose = h("select", { "aria-label": "File", onchange: (event) => { location.hash = `#/policy?tab=source&file=${encodeURIComponent(event.target.value)}`; } },
    files.map((one) => h("option", { value: one.file, selected: one === file }, one.file)));
  replace(body, h("div", { class: "row tools" }, choose, h("p", { class: "count" }, `${plural(lines.length, "line")}, in force as generation ${generation}`)),
    listing(lines, lines.map((_, index) => index + 1), new Set(line ? [line] : [])));
  document.getElementById(`line-${line}`)?.scrollIntoView({ block: "center" });
}

let refill;
let refilled = 0;

export function leave() {
  refill = undefined;
}

export function tell() {
  if (refill && Date.now() - refilled > 1900) refill();
}

async function shadow(body) {
  refill = async () => {
    refilled = Date.now();
    replace(body, differences((await get("/api/shadow")).shadow));
  };
  await refill();
}

const CHANGES = { newly_allowed: ["+", "newly allowed"], newly_denied: ["−", "newly denied"] };
const change = (name) => [h("span", { class: `tag ${name}` }, h("span", { "aria-hidden": "true" }, CHANGES[name][0]), ` ${CHANGES[name][1]}`)];

function differences(tried) {
  if (!tried) return h("p", { class: "calm" }, "There is no shadow policy. Name one in ", code("shadow_policies"), " of the configuration: it is then judged beside the policy in force, and the differences are shown here.");
  const { policies, problems, since, differences: counted, recent } = tried;
  const opinion = ({ decision, rule }) => [decision, rule && [" by ", code(rule.name), " ", link(`${rule.file}:${rule.line}`)]];
  const heads = (names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));
  return [
    problems > 0 && h("p", { class: "bad" }, `The files of the shadow policy have ${plural(problems, "problem")}${since ? "; the previous version is still judged" : ", so it is not judged"}.`),
    since && h("p", {}, code(policies), " is judged beside the policy in force since ", at(since), ". It changes no answer."),
    since && !counted.length && h("p", { class: "calm" }, "So far it has decided every request as the policy in force did."),
    counted.length > 0 && h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Differences by rule" }, h("table", { class: "list" }, heads(["Change", "By the rule", "Requests"]),
      h("tbody", {}, counted.map((one) => h("tr", {}, h("td", {}, change(one.change)), h("td", {}, one.rule ? code(one.rule) : "no grant"), h("td", {}, number(one.count))))))),
    recent.length > 0 && [h("h2", { class: "next" }, "Last differences"), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "The last differences" }, h("table", { class: "list" }, heads(["When", "Client", "Request", "In force", "Tried", "Change"]),
      h("tbody", {}, recent.map((one) => h("tr", {}, h("td", {}, at(one.time)), h("td", { title: one.client }, short(one.client)), h("td", {}, code(`${one.method} ${one.path}`)), h("td", {}, opinion(one.decision)), h("td", {}, opinion(one.shadow)), h("td", {}, change(one.change)))))))],
  ];
}
