// The choice of the view, and the events that all views get.

import { h, plural, replace, told } from "./dom.js";
import { listen } from "./server.js";
import * as now from "./now.js";
import * as refusals from "./refusals.js";
import * as policy from "./policy.js";
import * as playground from "./playground.js";
import * as trust from "./trust.js";
import * as connections from "./connections.js";

const VIEWS = { now, refusals, policy, playground, trust, connections };
const main = document.getElementById("view");
let shown;
let last;

/** `#/refusals?q=a` */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const name = path.split("/")[0];
  return { name: VIEWS[name] ? name : "now", query: new URLSearchParams(query) };
}

async function show() {
  if (location.hash === "#view") return main.focus();
  const { name, query } = place();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  shown?.leave?.();
  document.title = `Sidegate: ${name}`;
  const view = h("div", { class: `view ${name}` });
  replace(main, view);
  shown = VIEWS[name];
  try {
    await shown.show(view, query);
    if (last) shown.tell?.(last);
  } catch (error) {
    replace(view, h("p", { class: "bad", role: "alert" }, `This could not be shown: ${error.message}`));
  }
}

const state = document.getElementById("state");

function tell(event) {
  last = event;
  const words = [
    h("span", { class: event.ready ? "dot good" : "dot bad" }),
    `${event.ready ? "ready" : "not ready"} · backend ${event.backend.state} · generation ${event.generation}`,
    event.mode === "audit" && h("strong", {}, " · audit mode: the policy refuses nothing"),
  ];
  const text = words.map((word) => word?.textContent ?? word).join("");
  if (state.dataset.text !== text) {
    state.dataset.text = text;
    replace(state, words);
  }
  state.title = `Sidegate ${event.version}, up for ${plural(Math.floor(event.uptime_seconds / 60), "minute")}`;
  now.remember(event);
  refusals.remember(event);
  shown?.tell?.(event);
}

function lost() {
  state.dataset.text = "";
  replace(state, h("span", { class: "dot bad" }), told("the connection to Sidegate is lost; trying again"));
}

addEventListener("hashchange", show);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
show();
listen(tell, lost);
