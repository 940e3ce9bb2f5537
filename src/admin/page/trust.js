// The authorities and their certificates with the time that remains, the last reloads, and the button that reloads.

import { at, code, duration, h, onDay, plural, replace, told } from "./dom.js";
import { link } from "./explanation.js";
import { get, reload } from "./server.js";

const KINDS = { server: "server certificate", ca: "client CA", crl: "CRL" };
const PART_STATES = { applied: ["✔", "in force", "good"], refused: ["✖", "refused", "expired"], hanging: ["✖", "cannot be read", "expired"] };
const STATES = { good: ["✔", "good"], soon: ["▲", "expires soon"], expired: ["✖", "expired"] };

export async function show(view) {
  const said = h("p", { class: "count", role: "status" });
  const body = h("div");
  const button = h("button", { type: "button", class: "main", onclick: () => act() }, "Reload now");
  replace(view, h("h1", {}, "Trust"), body);

  async function act() {
    button.disabled = true;
    said.textContent = "reading all files …";
    try {
      const { outcome, generation } = await reload();
      said.textContent = outcome === "applied" ? `Applied: generation ${generation} is in force.` : "Not every part is in force. The problems are below, by part.";
    } catch (error) {
      said.textContent = error.message;
    }
    button.disabled = false;
    await fill();
  }

  async function fill() {
    const { expires, checks_revocation: checks, revoked, reload: history } = await get("/api/trust");
    replace(body, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Certificates and CRLs" }, table(expires)),
      h("p", { class: "note" }, checks ? `Revocation is checked: ${plural(revoked, "certificate is", "certificates are")} revoked.` : ["Revocation is not checked (", code("tls.crl"), " is not set)."]),
      h("h2", {}, "Reloads"), h("div", { class: "row tools" }, button, said), parts(history), reloads(history));
  }
  await fill();
}

function table(expires) {
  const rows = expires.map((one) => {
    const [sign, words] = STATES[one.state];
    const left = one.seconds_left;
    const part = Math.max(0, Math.min(1, left / Math.max(1, one.lifetime_seconds)));
    return h("tr", { class: one.state },
      h("td", {}, KINDS[one.kind]),
      h("td", {}, one.name, h("span", { class: "who" }, one.file), one.help && h("span", { class: "who" }, one.help)),
      h("td", {}, h("meter", { min: 0, max: 1, low: 0.1, high: 0.2, optimum: 1, value: part, "aria-label": `${Math.round(part * 100)} percent of its life remaining` })),
      h("td", {}, left > 0 ? duration(left) : `${duration(left)} ago`, h("span", { class: "who" }, onDay(one.until))),
      h("td", {}, h("span", { class: `tag ${one.state}` }, h("span", { "aria-hidden": "true" }, sign), ` ${words}`)));
  });
  const heads = ["What", "Name", "Life remaining", "Left", "State"].map((name) => h("th", { scope: "col" }, name));
  return h("table", { class: "list" }, h("caption", { class: "hidden" }, "What expires, the next first"), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
}

function parts({ parts: all }) {
  const rows = Object.entries(all).map(([part, one]) => {
    const [sign, words, tag] = PART_STATES[one.state];
    return h("tr", { class: tag },
      h("td", {}, code(part), problems(one.diagnostics)),
      h("td", {}, one.applied_at ? at(one.applied_at) : "at the start"),
      h("td", {}, `${duration(one.look_age_seconds)} ago`),
      h("td", {}, h("span", { class: `tag ${tag}` }, h("span", { "aria-hidden": "true" }, sign), ` ${words}`)));
  });
  const heads = ["Part", "In force since", "Last read", "On disk"].map((name) => h("th", { scope: "col" }, name));
  const table = h("table", { class: "list" }, h("caption", { class: "hidden" }, "Parts of the files"), h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Parts" }, table);
}

function problems(diagnostics) {
  return diagnostics.length > 0 && h("ul", { class: "problems" }, diagnostics.map((problem) => h("li", { class: problem.severity }, problem.file && link(`${problem.file}:${problem.line}`), " ", h("b", {}, problem.severity), " ", told(problem.message), problem.help && h("span", { class: "note" }, " · ", told(problem.help)))));
}

function reloads({ parts: all, recent, needs_restart: waiting }) {
  const restart = waiting.length > 0 && h("p", { class: "note" }, "Changed; takes effect only after a restart: ", waiting.map((key, index) => [index > 0 && ", ", code(key)]));
  if (!recent.length) return [restart, h("p", { class: "calm" }, "No reload since the start.")];
  const why = { change: "a file changed", signal: "SIGHUP", request: "requested" };
  return [restart, h("ol", { class: "reloads" }, recent.map((one) => h("li", { class: one.outcome },
    h("p", {}, h("span", { class: `tag ${one.outcome === "applied" ? "good" : "expired"}` }, h("span", { "aria-hidden": "true" }, one.outcome === "applied" ? "✔" : "✖"), ` ${one.outcome}`), " ", at(one.at), ` · ${why[one.trigger]} · generation ${one.generation} in force · ${Object.keys(one.parts).length === Object.keys(all).length ? "all parts" : Object.keys(one.parts).join(", ")}`),
    problems(one.diagnostics))))];
}
