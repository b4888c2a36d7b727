// Opens the dashboard of a running gateway (`HUNHE_URL`) in Chromium and checks what an operator relies on: both
// languages, live data, the keyboard, both sizes, and a console without an error. Exit code 0 or 1.
//
//   HUNHE_URL=http://127.0.0.1:8480/ npm run test:browser
//
// `CHROMIUM` names the browser (default /usr/bin/chromium), `SCREENSHOTS` a folder for pictures.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const url = process.env.HUNHE_URL;
if (!url) {
  console.error("HUNHE_URL is not set: give the address of a running gateway");
  process.exit(2);
}

const profile = await mkdtemp(join(tmpdir(), "hunhe-browser-"));
const faults = [];
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1920, height: 1080 },
  locale: "zh-CN",
  timezoneId: "Asia/Shanghai",
  colorScheme: "dark",
  args: [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ],
});
context.setDefaultTimeout(15_000);

async function picture(page, name) {
  if (process.env.SCREENSHOTS) await page.screenshot({ path: join(process.env.SCREENSHOTS, `${name}.png`) });
}

const text = (page, selector) => page.locator(selector).first().innerText();

async function step(name, run) {
  await run();
  console.log(`ok  ${name}`);
}

try {
  const page = await context.newPage();
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`page: ${error.message}`));
  page.on("dialog", (dialog) => faults.push(`dialog: ${dialog.message()}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(new URL(url).origin)) faults.push(`left the gateway: ${request.url()}`);
  });

  await page.goto(url);
  await step("the stream is live and the page Chinese first", async () => {
    await page.waitForSelector('html[data-connection="live"]');
    assert.equal(await page.getAttribute("html", "lang"), "zh-CN");
    assert.match(await text(page, "#now-ledger"), /账本[\s\S]*✓ 闭合[\s\S]*未说明/);
    assert.match(await text(page, "#now-readings"), /读数 \/ 秒\s*[\d,]+/);
  });

  await step("figures move with live data", async () => {
    const before = await text(page, "#now-ledger");
    await page.waitForFunction((seen) => document.querySelector("#now-ledger").innerText !== seen, before);
    await page.waitForFunction(() => document.querySelectorAll("#devices li").length > 5);
    await page.waitForFunction(() => Number(document.querySelector("#chart").dataset.points) > 1);
    assert.ok(await page.locator("#chart canvas").isVisible());
  });
  await picture(page, "zh-dark");

  await step("the keyboard finds, walks and opens", async () => {
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    const chosen = await page.getAttribute('#devices li[aria-selected="true"]', "id");
    await page.keyboard.press("Enter");
    await page.waitForSelector(`#${chosen}[data-opened="true"]`);
    const wanted = (await text(page, "#devices li:nth-child(4) .id")).trim();
    await page.keyboard.press("/");
    await page.keyboard.type(wanted);
    await page.waitForFunction((id) => {
      const rows = [...document.querySelectorAll("#devices li")];
      return rows.length > 0 && rows.every((row) => row.id.includes(id));
    }, wanted);
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelectorAll("#devices li").length > 5);
    await page.keyboard.press("?");
    assert.ok(await page.locator("#help").isVisible());
    await picture(page, "zh-help");
    await page.keyboard.press("Escape");
    await page.waitForSelector("#help", { state: "hidden" });
  });

  await step("English is complete", async () => {
    await page.keyboard.press("l");
    assert.equal(await page.getAttribute("html", "lang"), "en");
    assert.match(await text(page, "#now-ledger"), /Ledger[\s\S]*✓ closed[\s\S]*unexplained/);
    // The name of the house and the switch to Chinese stay Chinese, and nothing else.
    const left = await page.evaluate(() => {
      const copy = document.body.cloneNode(true);
      copy.querySelectorAll("h1, #language, dialog").forEach((part) => part.remove());
      return copy.textContent.match(/[\u4e00-\u9fff]+/g);
    });
    assert.equal(left, null);
  });

  await step("the light theme is kept with the language when the page comes again", async () => {
    await page.keyboard.press("t");
    await picture(page, "en-light");
    await page.reload();
    await page.waitForSelector('html[data-connection="live"][data-theme="light"][lang="en"]');
  });

  await step("a phone shows it without scrolling sideways", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `${overflow} pixels too wide`);
    await page.waitForFunction(() => Number(document.querySelector("#chart").dataset.points) > 1);
    await picture(page, "en-phone");
  });

  await step("text from outside stays text, and the console is clean", async () => {
    assert.equal(await page.locator("body img, body iframe, body script").count(), 0);
    assert.deepEqual(faults, []);
  });
} catch (error) {
  console.error(error);
  if (faults.length > 0) console.error(faults.join("\n"));
  process.exitCode = 1;
} finally {
  await context.close();
  await rm(profile, { recursive: true, force: true });
}
