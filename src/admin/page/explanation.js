// A decision with all reasons for and against it, and the lines of the policy behind them.

import { code, h, quiet, told } from "./dom.js";
import { sources } from "./server.js";

const SIGNS = { allow: "✔", deny: "✖" };

/** `file:17` */
export function split(place) {
  const colon = place.lastIndexOf(":");
  return { file: place.slice(0, colon), line: Number(place.slice(colon + 1)) };
}

export function link(place, text) {
  const { file, line } = split(place);
  const name = file.split("/").at(-1);
  return h("a", { class: "at", href: `#/policy?tab=source&file=${encodeURIComponent(file)}&line=${line}`, title: place }, text ?? `${name}:${line}`);
}

/** Elements for an explanation; `texts` are the files that it is about, where they are not those in force. */
export async function explained(explanation, generation, texts) {
  const { decision, rule, clients, grants, denies, near_misses: misses } = explanation;
  const files = texts ?? (await sources(generation)).files;
  return [
    h("p", { class: `verdict ${decision}` }, h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[decision]), " ", sentence(explanation)),
    h("dl", { class: "facts" },
      h("dt", {}, "The client matches"), h("dd", {}, clients.length ? clients.map((name, index) => [index > 0 && ", ", code(name)]) : "no client entry"),
      grants.length > 0 && [h("dt", {}, "Granted by"), grants.map((one) => h("dd", {}, way(one)))],
      denies.length > 0 && [h("dt", {}, "Forbidden by"), denies.map((one) => h("dd", {}, way(one)))],
      misses.length > 0 && [h("dt", {}, "Nearly granted by"), misses.slice(0, 10).map((one) => h("dd", {}, code(one.name), " ", link(one.at), " has ", code(one.permission), ", but ", told(one.because)))],
      misses.length > 10 && h("dd", {}, `and ${misses.length - 10} more entries with a matching route`),
      decision === "deny" && !grants.length && !misses.length && [h("dt", {}, "Reasons"), explanation.facts.map((fact) => h("dd", {}, told(fact)))],
    ),
    excerpts(files, cited(explanation), rule && `${rule.file}:${rule.line}`),
  ];
}

function sentence({ decision, rule, upgrade }) {
  if (decision === "allow") return [h("b", {}, "Allowed"), " by ", code(rule.name), " ", link(`${rule.file}:${rule.line}`), upgrade && ", also the switch of protocols"];
  if (rule) return [h("b", {}, "Denied"), " by ", code(rule.name), " ", link(`${rule.file}:${rule.line}`)];
  return [h("b", {}, "Denied"), ": no grant allows it"];
}

function way({ name, at, roles, permission, route, route_at: routeAt }) {
  const steps = roles.map((role) => [" → role ", code(role)]);
  return [code(name), " ", link(at), steps, permission !== name && [" → ", code(permission)], " → ", code(route), " ", link(routeAt)];
}

function cited({ grants, denies, near_misses: misses, rule }) {
  const places = [...grants, ...denies].flatMap((one) => [one.at, one.route_at]);
  places.push(...misses.slice(0, 3).map((one) => one.at));
  if (rule) places.push(`${rule.file}:${rule.line}`);
  return [...new Set(places)];
}

/** The lines of an entry: from its name to the next one that is written no deeper. */
function block(lines, line) {
  const depth = (text) => text.search(/\S/);
  let end = line;
  while (end < lines.length && end - line < 12 && (depth(lines[end]) > depth(lines[line - 1]) || depth(lines[end]) < 0)) end += 1;
  while (end > line && depth(lines[end - 1]) < 0) end -= 1;
  return end;
}

function excerpts(files, places, deciding) {
  return files.map(({ file, text }) => {
    const marked = new Set(places.map(split).filter((place) => place.file === file).map((place) => place.line));
    if (!marked.size) return undefined;
    const lines = text.split("\n");
    const shown = new Set();
    for (const line of marked) for (let number = line; number <= block(lines, line); number += 1) shown.add(number);
    return h("figure", { class: "excerpt" }, h("figcaption", {}, file), listing(lines, [...shown].sort((a, b) => a - b), marked, deciding));
  });
}

/** Lines with their numbers; those that matter are marked, and gaps are shown. */
export function listing(lines, numbers, marked, deciding) {
  let before = numbers[0] - 1;
  const rows = numbers.map((number) => {
    const gap = number > before + 1 && h("span", { class: "gap", "aria-hidden": "true" }, "⋮");
    before = number;
    const here = marked.has(number);
    const decides = deciding && split(deciding).line === number;
    return [gap, h("span", { class: here ? "line marked" : "line", id: `line-${number}` },
      h("span", { class: "number", "aria-hidden": "true" }, here ? "▸" : "", String(number)), h("span", { class: "text" }, lines[number - 1] || " "), decides && quiet(" (decides)"))];
  });
  return h("pre", { class: "listing", tabindex: "0", "aria-label": "Lines of the policy" }, rows);
}
