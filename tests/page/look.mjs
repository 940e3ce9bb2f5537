// Checks of the admin page: a real browser opens each view of the real program under traffic.
//
// Environment: BASE is the URL of the page, SCENE a JSON file with the expected contents, SHOTS a folder for pictures.

import { strict as assert } from "node:assert";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(process.env.MODULES);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const { BASE, SHOTS } = process.env;
const scene = JSON.parse(readFileSync(process.env.SCENE, "utf8"));

const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: flags });
const complaints = [];
const asked = new Set();

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1360, height: 850 }, timezoneId: "America/New_York", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => complaints.push(`a script of a stranger's ran: ${dialog.message()}`));
  page.on("request", (request) => asked.add(new URL(request.url()).origin));
  return page;
}

async function go(page, view) {
  await page.goto(`${BASE}/#/${view}`);
  await page.locator(`.view.${view.split("?")[0]} h1`).waitFor({ state: "attached" });
}

/** Text that is there, waited for. */
async function sees(page, text, where = "main") {
  await page.locator(where).getByText(text).first().waitFor();
}

const checks = {
  async "the first paint is there at once"() {
    const page = await open();
    const paints = [];
    for (let count = 0; count < 5; count += 1) {
      await page.goto("about:blank");
      await page.goto(BASE, { waitUntil: "load" });
      await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint").length > 0);
      paints.push(await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0].startTime));
    }
    const paint = Math.min(...paints);
    console.log(`first contentful paint after ${paints.map(Math.round).join(", ")} ms`);
    assert.ok(paint < Number(process.env.PAINT ?? 100), `${paint} ms`);
    await page.context().close();
  },

  async "now: a summary in words, and charts of the past"() {
    const page = await open();
    await go(page, "now");
    await sees(page, /refusals in the last minute: .* has no valid certificate/, ".headlines");
    await sees(page, `of ${scene.slots}`, ".tiles");
    await page.locator(".uplot canvas").nth(3).waitFor();
    const label = await page.locator(".chart [role=img]").nth(1).getAttribute("aria-label");
    assert.match(label, /^Decisions per second, the last \d+ minutes: forwarded now /);
    await page.waitForFunction(() => document.querySelectorAll(".chart")[2].querySelector(".legend b").textContent.match(/µs|ms/), undefined, { timeout: 20_000 });
    const since = page.locator(".headlines time").first();
    const [told, title, instant] = await Promise.all([since.textContent(), since.getAttribute("title"), since.getAttribute("datetime")]);
    assert.match(title, / UTC$/);
    assert.ok(!told.includes(instant.slice(11, 13) + ":"), `${told} is not in the reader's zone (${title})`);
    await page.locator(".headlines a").first().click();
    await page.waitForURL(/#\/refusals/);
    await page.context().close();
  },

  async "refusals: searched, filtered, explained with the policy's lines"() {
    const page = await open();
    await go(page, "refusals");
    await page.getByLabel("Search client, path").fill("erase-me");
    await sees(page, /^1 of \d+ refusals$/, ".count");
    await page.locator("tbody button").first().click();
    await sees(page, "Denied", ".detail .verdict");
    await sees(page, "audit-trail-is-kept", ".detail .verdict");
    const marked = page.locator(".excerpt .line.marked");
    assert.ok((await marked.allTextContents()).some((line) => line.includes("name: audit-trail-is-kept")));
    await page.getByLabel("Search client, path").fill("reports/weekly");
    await page.locator("tbody tr", { hasText: "/reports/weekly" }).first().locator("button").click();
    await sees(page, /the query parameter .* must occur exactly once/, ".detail");
    assert.ok(!(await page.locator("main").textContent()).includes("s3cr3t"));
    await page.getByLabel("Search client, path").fill("");
    await page.getByLabel("Which refusals").selectOption("401");
    await page.waitForFunction(() => [...document.querySelectorAll("tbody .tag")].every((tag) => tag.textContent === "401"));
    await page.locator("tbody tr", { hasText: "expired" }).or(page.locator("tbody tr", { hasText: "invalid certificate" })).first().locator("button").click();
    await sees(page, "the certificate expired", ".detail");
    await sees(page, "from its certificate, unverified", ".detail");
    await page.context().close();
  },

  async "refusals: new ones appear by themselves, and names with markup are text"() {
    const page = await open();
    await go(page, "refusals");
    const rows = page.locator("tbody tr");
    const first = await rows.first().locator("time").getAttribute("datetime");
    await page.waitForFunction((first) => document.querySelector("tbody time").getAttribute("datetime") !== first, first);
    await page.getByLabel("Search client, path").fill("onerror");
    await page.waitForFunction(() => document.querySelector("tbody tr td:nth-child(2)")?.textContent.includes("onerror"));
    assert.ok((await page.locator("tbody tr td:nth-child(2)").first().textContent()).includes(scene.hostile));
    await page.locator("tbody button").first().click();
    await sees(page, /onerror.{1,2}alert/, ".detail");
    assert.equal(await page.locator("main img, main script").count(), 0);
    await page.context().close();
  },

  async "policy: the matrix, the reasons of a cell, and the lines of the policy"() {
    const page = await open();
    await go(page, "policy");
    await page.getByRole("button", { name: "order-service, events:erase: granted, but denied by a rule" }).click();
    await sees(page, "no-erasing", ".detail");
    await sees(page, "operator", ".detail");
    await page.getByRole("button", { name: "report-service, reports:export: granted under conditions" }).click();
    await sees(page, /the query's/, ".detail");
    await page.getByLabel("Search clients").fill("tenants");
    await sees(page, /^1 of \d+ client entries$/, ".count");
    await page.locator(".matrix button").first().click();
    await page.locator(".detail .at").first().click();
    await page.locator(".listing .line.marked", { hasText: "name: tenants" }).waitFor();
    await page.getByRole("link", { name: "Changes by the shadow policy" }).click();
    await sees(page, "newly denied");
    await sees(page, /is judged beside the policy in force since/);
    await page.context().close();
  },

  async "playground: an entry, a certificate, a time, and an edited policy"() {
    const page = await open();
    await go(page, "playground");
    await page.getByLabel("Client entry").fill("order-service");
    await page.getByLabel("Client entry").press("Tab");
    await sees(page, "Allowed", ".detail .verdict");
    await page.getByLabel("Method").selectOption("DELETE");
    await page.getByLabel("Path").fill("/events/17");
    await sees(page, "no-erasing", ".detail .verdict");
    await page.getByLabel("Or a certificate (PEM)").fill(scene.expired);
    await sees(page, "401: the certificate is not valid", ".detail");
    await page.getByLabel("Or a certificate (PEM)").fill(scene.valid);
    await sees(page, "The certificate is valid", ".detail");
    await page.getByLabel("Method").selectOption("GET");
    await sees(page, "Allowed", ".detail");
    await page.getByLabel("Time (now, if empty)").fill("2999-01-01T00:00:00");
    await sees(page, "401: the certificate is not valid", ".detail");
    await page.getByLabel("Time (now, if empty)").fill("");
    const text = page.getByLabel("Text of the policy");
    const policy = await text.inputValue();
    await text.fill(policy.replace("roles: [operator]", "roles: [operatr]"));
    await sees(page, "is not a valid policy", ".detail");
    await sees(page, "unknown role `operatr`", ".marks");
    await sees(page, "did you mean", "#problems");
    await page.locator("#problems button").first().click();
    const at = await text.evaluate((field) => field.value.slice(0, field.selectionStart).split("\n").length);
    assert.ok(policy.split("\n")[at - 1].includes("roles: [operator]"), `line ${at}`);
    await text.fill(policy.replace(/deny:[^]*$/, ""));
    await sees(page, "By the edited policy below, which is not in force.", ".detail");
    await page.getByLabel("Method").selectOption("DELETE");
    await sees(page, "Allowed", ".detail");
    await page.getByRole("button", { name: "Restore the text in force" }).click();
    await sees(page, "no-erasing", ".detail .verdict");
    await page.context().close();
  },

  async "trust: the time that remains, and the reload button"() {
    const page = await open();
    await go(page, "trust");
    await sees(page, "server certificate");
    await sees(page, "client CA");
    await page.getByRole("button", { name: "Reload now" }).click();
    await sees(page, /Applied: generation \d+ is in force/);
    await sees(page, "requested", ".reloads");
    await sees(page, "client_trust");
    await sees(page, "server_certificates");
    await page.context().close();
  },

  async "connections: the client and the state of each"() {
    const page = await open();
    await go(page, "connections");
    await sees(page, "order-service", "tbody");
    await page.getByLabel("Search address").fill("lobby");
    await sees(page, /^\d+ of \d+ connections$/, ".count");
    await page.context().close();
  },

  async "a keyboard is enough"() {
    const page = await open();
    await go(page, "now");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Tab");
    await page.keyboard.press("Enter");
    await page.locator(".view.refusals h1").waitFor();
    await page.locator("tbody button").first().focus();
    await page.keyboard.press("Enter");
    await page.locator(".detail h2").waitFor();
    assert.ok(await page.evaluate(() => document.activeElement.classList.contains("detail")));
    await page.context().close();
  },

  async "axe finds nothing, light, dark and narrow, and nothing is wider than the screen"() {
    for (const [colorScheme, width] of [["light", 1360], ["dark", 1360], ["light", 390], ["dark", 390]]) {
      const page = await open({ colorScheme, viewport: { width, height: 850 }, bypassCSP: true });
      for (const [view, prepare] of VIEWS) {
        await go(page, view);
        await prepare?.(page);
        await page.evaluate(axe);
        const found = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }));
        const told = found.violations.map((it) => `${it.id}: ${it.nodes.map((node) => node.html + node.failureSummary).slice(0, 3).join(" | ")}`);
        assert.deepEqual(told, [], `${view} in ${colorScheme} at ${width}`);
        const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(over <= 0, `${view} is ${over} pixels wider than a screen of ${width}`);
        if (SHOTS) await page.screenshot({ path: `${SHOTS}/${view.replace(/\W+/g, "-")}-${colorScheme}-${width}.png` });
      }
      await page.context().close();
    }
  },
};

const choose = (selector) => async (page) => {
  await page.locator(selector).first().click();
  await page.locator(".detail h2").waitFor();
};

const VIEWS = [
  ["now", (page) => page.locator(".uplot canvas").nth(3).waitFor()],
  ["refusals?q=erase-me", choose("tbody button")],
  ["policy", choose("button.cell.denied")],
  ["policy?tab=source&line=3"],
  ["policy?tab=shadow"],
  ["playground?entry=order-service", (page) => page.locator(".detail .verdict").waitFor()],
  ["trust"],
  ["connections", (page) => page.locator("tbody tr").first().waitFor()],
];

const tokenChecks = {
  async "the token is asked for once, and kept in the tab"() {
    const page = await open();
    await page.goto(BASE);
    await page.getByRole("dialog").waitFor();
    await page.getByLabel("Token", { exact: true }).fill("wrong-token-wrong-token");
    await page.keyboard.press("Enter");
    await sees(page, "The token is wrong.", "dialog");
    await page.getByLabel("Token", { exact: true }).fill(scene.token);
    await page.getByRole("button", { name: "Continue" }).click();
    await page.locator(".tiles dt").first().waitFor();
    await page.reload();
    await page.locator(".tiles dt").first().waitFor();
    assert.equal(await page.getByRole("dialog").count(), 0);
    // The browser itself writes each 401 to its console.
    complaints.splice(0, complaints.length, ...complaints.filter((text) => !text.includes("401")));
    await page.context().close();
  },
};

if (SHOTS) mkdirSync(SHOTS, { recursive: true });
let failed = 0;
for (const [name, check] of Object.entries(scene.token ? tokenChecks : checks)) {
  if (process.env.ONLY && !name.includes(process.env.ONLY)) continue;
  const start = Date.now();
  try {
    await check();
    assert.deepEqual(complaints, [], "the browser's console");
    console.log(`ok   ${name} (${Date.now() - start} ms)`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error.message}`);
  }
  complaints.length = 0;
}
try {
  assert.deepEqual([...asked].filter((origin) => origin !== BASE && origin !== "null"), [], "asked of others");
} catch (error) {
  failed += 1;
  console.log(`FAIL ${error.message}`);
}
await browser.close();
process.exitCode = failed ? 1 : 0;
