// Questions to the policy in force, or to an edited text that is never put in force.

import { at, code, debounced, h, plural, replace, told } from "./dom.js";
import { explained } from "./explanation.js";
import { explain, get, sources } from "./server.js";

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
const field = (label, control, hint) => h("p", { class: "field" }, h("label", { for: control.id }, label), control, hint && h("span", { class: "note" }, hint));
const input = (id, attributes = {}) => h("input", { id, type: "text", spellcheck: "false", autocomplete: "off", ...attributes });

let kept = {};
let asks = 0;

export async function show(view, query) {
  const policy = await sources();
  const parts = {
    entry: input("entry", { list: "entries", placeholder: "name of a client entry" }),
    entries: h("datalist", { id: "entries" }),
    client: h("textarea", { id: "client", rows: 2, spellcheck: "false" }),
    certificate: h("textarea", { id: "certificate", rows: 3, spellcheck: "false", placeholder: "-----BEGIN CERTIFICATE-----" }),
    method: h("select", { id: "method" }, METHODS.map((name) => h("option", {}, name))),
    path: input("path", { placeholder: "/events?id=17" }),
    host: input("host", { placeholder: "shop.example" }),
    source: input("source", { placeholder: "10.0.0.1" }),
    time: h("input", { id: "time", type: "datetime-local", step: "1" }),
    file: h("select", { id: "file" }, policy.files.map(({ file }) => h("option", {}, file))),
    text: h("textarea", { id: "text", class: "code", spellcheck: "false", wrap: "off", "aria-describedby": "problems" }),
    marks: h("pre", { class: "code marks", "aria-hidden": "true" }),
    problems: h("div", { id: "problems" }),
    answer: h("section", { class: "detail", "aria-label": "Answer", "aria-live": "polite" }),
  };
  const texts = Object.fromEntries(policy.files.map(({ file, text }) => [file, kept.texts?.[file] ?? text]));
  const state = { policy, parts, texts };
  layout(view, state);
  wire(state);
  restore(state, query);
  if (query.get("entry")) await choose(state);
  await ask(state);
}

function layout(view, { parts }) {
  const back = h("button", { type: "button", id: "back" }, "Restore the text in force");
  parts.back = back;
  replace(view, h("h1", {}, "Playground"), h("p", { class: "note" }, "Questions and edits here change nothing in the proxy."),
    h("div", { class: "beside even" },
      h("form", { class: "question", "aria-label": "Question", onsubmit: (event) => event.preventDefault() },
        h("fieldset", {}, h("legend", {}, "Client"),
          field("Client entry", parts.entry, "fills in an example of a certificate that the entry matches"), parts.entries,
          field("Names in the certificate", parts.client, "common_name=…,organization=…,uri=…"),
          field("Or a certificate (PEM)", parts.certificate, "judged by the server, by the trust in force")),
        h("fieldset", {}, h("legend", {}, "Request"),
          h("div", { class: "line2" }, field("Method", parts.method), field("Path", parts.path)),
          field("Host", parts.host, "the host that the client names; needed for routes with hosts"),
          h("div", { class: "line2" }, field("From address", parts.source), field("Time (now, if empty)", parts.time)))),
      parts.answer),
    h("fieldset", { class: "editor" }, h("legend", {}, "Policy: in force, or edited here"),
      h("div", { class: "row tools" }, h("label", { for: "file" }, "File"), parts.file, back),
      h("label", { class: "hidden", for: "text" }, "Text of the policy"),
      h("div", { class: "editing" }, parts.marks, parts.text), parts.problems));
}

function wire(state) {
  const { parts, texts } = state;
  const later = debounced(() => ask(state), 300);
  for (const name of ["client", "certificate", "path", "host", "source", "time", "method"]) parts[name].addEventListener("input", later);
  parts.entry.addEventListener("input", debounced(() => suggest(state), 200));
  parts.entry.addEventListener("change", () => choose(state).then(() => ask(state)));
  parts.text.addEventListener("input", () => { texts[parts.file.value] = parts.text.value; mark(state, []); later(); });
  parts.text.addEventListener("scroll", () => { parts.marks.scrollTop = parts.text.scrollTop; parts.marks.scrollLeft = parts.text.scrollLeft; });
  parts.file.addEventListener("change", () => { parts.text.value = texts[parts.file.value]; ask(state); });
  parts.back.addEventListener("click", () => {
    for (const { file, text } of state.policy.files) texts[file] = text;
    parts.text.value = texts[parts.file.value];
    ask(state);
  });
}

function restore(state, query) {
  const { parts, texts } = state;
  parts.entry.value = query.get("entry") ?? kept.entry ?? "";
  parts.client.value = kept.client ?? "";
  parts.certificate.value = query.get("entry") ? "" : kept.certificate ?? "";
  parts.method.value = kept.method ?? "GET";
  parts.path.value = kept.path ?? "/events";
  parts.host.value = kept.host ?? "";
  parts.source.value = kept.source ?? "";
  parts.text.value = texts[parts.file.value];
  suggest(state);
}

async function suggest({ parts }) {
  const found = await get("/api/matrix", { q: parts.entry.value, limit: 30 });
  replace(parts.entries, found.clients.map(({ name }) => h("option", { value: name })));
}

async function choose({ parts }) {
  if (!parts.entry.value) return;
  try {
    const { example } = await get("/api/client", { name: parts.entry.value });
    parts.client.value = example ?? "";
    parts.certificate.value = "";
  } catch {
    // The name is not complete yet.
  }
}

function question({ parts, texts, policy }) {
  const edited = Object.fromEntries(policy.files.filter(({ file, text }) => texts[file] !== text).map(({ file }) => [file, texts[file]]));
  const given = { method: parts.method.value, path: parts.path.value.trim() || undefined, edited };
  if (parts.certificate.value.trim()) given.certificate = parts.certificate.value;
  else if (parts.client.value.trim()) given.client = parts.client.value.trim();
  if (parts.host.value.trim()) given.host = parts.host.value.trim();
  if (parts.source.value.trim()) given.source = parts.source.value.trim();
  if (parts.time.value) given.at = new Date(parts.time.value).toISOString();
  return given;
}

async function ask(state) {
  const { parts, texts } = state;
  kept = { entry: parts.entry.value, client: parts.client.value, certificate: parts.certificate.value, method: parts.method.value, path: parts.path.value, host: parts.host.value, source: parts.source.value, texts };
  const number = (asks += 1);
  const asked = question(state);
  let shown;
  try {
    const answer = await explain(asked);
    if (number !== asks) return;
    problems(state, answer);
    shown = await told_(state, asked, answer);
  } catch (error) {
    shown = h("p", { class: "bad" }, error.message);
  }
  if (number === asks) replace(parts.answer, shown);
}

async function told_({ policy, texts }, asked, { valid, certificate, explanation, unexplained, generation }) {
  const tried = Object.keys(asked.edited).length > 0;
  const files = tried ? policy.files.map(({ file }) => ({ file, text: texts[file] })) : undefined;
  return [
    h("h2", {}, "Answer"),
    h("p", { class: "note" }, tried ? "By the edited policy below, which is not in force." : `By the policy in force, generation ${generation}.`),
    certificate && presented(certificate),
    explanation && (await explained(explanation, generation, files)),
    unexplained && h("p", { class: "verdict deny" }, told(unexplained)),
    !valid && h("p", { class: "verdict deny" }, h("span", { class: "sign", "aria-hidden": "true" }, "✖"), " The text below is not a valid policy, so it decides nothing."),
    valid && !explanation && !unexplained && !certificate && h("p", { class: "calm" }, "Enter a client and a request."),
  ];
}

function presented({ valid, valid_until: until, detail, identity }) {
  const names = Object.entries(identity).filter(([name]) => !["serial", "fingerprint", "public_key"].includes(name));
  return [
    h("p", { class: valid ? "verdict allow" : "verdict deny" }, h("span", { class: "sign", "aria-hidden": "true" }, valid ? "✔" : "✖"), " ",
      valid ? [h("b", {}, "The certificate is valid"), " until ", at(until)] : [h("b", {}, "401: the certificate is not valid"), `: ${detail}`]),
    names.length > 0 && h("dl", { class: "facts small" }, names.map(([name, values]) => [h("dt", {}, code(name)), values.map((value) => h("dd", {}, value))])),
    !valid && names.length > 0 && h("p", { class: "note" }, "If the certificate were valid, the policy would decide:"),
  ];
}

function problems(state, { problems: all }) {
  const { parts } = state;
  const here = all.filter((one) => one.file === parts.file.value);
  mark(state, here);
  const errors = all.filter((one) => one.severity === "error").length;
  replace(parts.problems, all.length === 0 ? undefined : [
    h("p", { class: errors ? "bad" : "note" }, `${plural(errors, "error")}, ${plural(all.length - errors, "warning")}`),
    h("ol", { class: "problems" }, all.slice(0, 50).map((one) => h("li", { class: one.severity },
      h("button", { type: "button", class: "link", onclick: () => jump(parts, one) }, one.line ? `line ${one.line}` : "no line"), " ", h("b", {}, one.severity), " ", told(one.message), one.help && h("span", { class: "note" }, " · ", told(one.help))))),
  ]);
}

/** Underlines what is wrong, in place, and says beside it why. */
function mark({ parts }, here) {
  const lines = parts.text.value.split("\n");
  replace(parts.marks, lines.map((line, index) => {
    const of = here.filter((one) => one.line === index + 1);
    const first = of[0];
    if (!first) return `${line}\n`;
    const end = first.end_line === first.line ? first.end_column - 1 : line.length;
    const text = [...line];
    return [text.slice(0, first.column - 1).join(""), h("span", { class: `wrong ${first.severity}` }, text.slice(first.column - 1, Math.max(end, first.column)).join("") || " "), text.slice(Math.max(end, first.column)).join(""), h("span", { class: `beside-line ${first.severity}` }, `  ◂ ${first.message}`), "\n"];
  }));
  parts.marks.scrollTop = parts.text.scrollTop;
}

function jump({ text, file }, { line, column, file: where }) {
  if (!line || where !== file.value) return;
  const before = text.value.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  text.focus();
  text.setSelectionRange(before + column - 1, before + column - 1);
  text.scrollTop = (line - 5) * parseFloat(getComputedStyle(text).lineHeight);
}
