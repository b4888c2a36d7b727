// Opens the dashboard of a running gateway (`HUNHE_URL`) in Chromium and checks what an operator relies on: both
// languages, the map, alerts as they come, the city's time, live data, the keyboard, both sizes, and a console without
// an error. Exit code 0 or 1. A gateway without alerts (`--scenario none`) is told by `ALERTS=none`.
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

const alerts = process.env.ALERTS !== "none";
const profile = await mkdtemp(join(tmpdir(), "hunhe-browser-"));
const faults = [];
const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  viewport: { width: 1920, height: 1080 },
  locale: "zh-CN",
  // Far from the city, whose time the page shows.
  timezoneId: "America/New_York",
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
    assert.match(await text(page, "#now-ledger"), /账目[\s\S]*✓ 账目已平[\s\S]*去向不明/);
    assert.match(await text(page, "#now-readings"), /读数 \/ 秒\s*[\d,]+/);
    assert.match(await text(page, "#now-online"), /在线设备\s*[\d,]+/);
    assert.match(await text(page, "#now-alerts"), /严重[\s\S]*重要[\s\S]*警告[\s\S]*提示/);
  });

  await step("the map has thirteen districts, in every metric, and each can be chosen", async () => {
    assert.equal(await page.getAttribute("#map", "data-districts"), "13");
    assert.equal(await page.locator("#districts button").count(), 13);
    assert.ok(await page.locator("#map .city canvas").first().isVisible());
    assert.ok(await page.locator("#map .centre canvas").first().isVisible());
    for (const metric of ["reporting", "silent", "rate", "alerts"]) {
      await page.click(`#metric [data-metric="${metric}"]`);
      const held = await page.locator("#legend b").allInnerTexts();
      assert.equal(held.reduce((sum, count) => sum + Number(count), 0), 13, metric);
    }
    const before = await text(page, "#devices .head .quiet");
    await page.click('#districts [data-code="210106"]');
    await page.waitForFunction((seen) => document.querySelector("#devices .head .quiet").innerText !== seen, before);
    assert.match(await text(page, "#narrowed"), /铁西区/);
    await page.keyboard.press("0");
    await page.waitForFunction((seen) => document.querySelector("#devices .head .quiet").innerText === seen, before);
  });

  await step("figures move with live data", async () => {
    const before = await text(page, "#ledger");
    assert.match(before, /采样[\s\S]*已存[\s\S]*隔离[\s\S]*已声明丢失[\s\S]*在途[\s\S]*去向不明/);
    await page.waitForFunction((seen) => document.querySelector("#ledger").innerText !== seen, before);
    await page.waitForFunction(() => document.querySelectorAll("#device-list li").length > 5);
    await page.waitForFunction(() => Number(document.querySelector("#chart").dataset.points) > 1, undefined, { timeout: 100_000 });
    assert.ok(await page.locator("#chart canvas").first().isVisible());
    assert.match(await text(page, "#quarantine"), /隔离区[\s\S]*条记录|没有被隔离/);
  });

  await step("the chart moves", async () => {
    const newest = () => document.querySelector("#chart").dataset.newest;
    const before = await page.evaluate(newest);
    await page.waitForFunction((seen) => document.querySelector("#chart").dataset.newest !== seen, before, { timeout: 60_000 });
  });

  if (alerts) {
    await step("an alert is on the screen with its place, value and threshold", async () => {
      const withFigure = '.alert[data-mode="live"][data-id]:has(.threshold:not(:empty))';
      await page.waitForSelector(withFigure, { timeout: 60_000 });
      const row = page.locator(withFigure).first();
      assert.match(await row.locator(".place").innerText(), /[\u4e00-\u9fff]/);
      assert.match(await row.locator(".value").innerText(), /\d/);
      assert.match(await row.locator(".threshold").innerText(), /^[≥≤] .*\d/);
      assert.match(await row.locator(".word").innerText(), /严重|重要|警告|提示/);
      assert.ok(["critical", "major", "warning", "info"].includes(await row.getAttribute("data-severity")));
      assert.ok(await row.locator("svg.mark path").count());
    });

    await step("an alert's time is the city's, also in a browser in New York", async () => {
      const [shown, iso, behindMinutes] = await page.locator(".alert time[datetime]").first().evaluate((time) =>
        [time.innerText, time.dateTime, new Date(time.dateTime).getTimezoneOffset()]);
      assert.ok(behindMinutes >= 240, "the browser is in New York");
      // Asia/Shanghai is eight hours ahead of UTC all year.
      const city = new Date(Date.parse(iso) + 8 * 3_600_000).toISOString();
      assert.ok(shown.endsWith(city.slice(11, 19)), `${shown} is not ${city} of the city`);
    });

    await step("the keyboard walks the alerts and opens one on the chart", async () => {
      await page.keyboard.press("g");
      await page.keyboard.press("a");
      await page.keyboard.press("j");
      const chosen = page.locator('.alert[aria-selected="true"]');
      assert.equal(await chosen.count(), 1);
      const note = await chosen.locator(".note").innerText();
      await page.keyboard.press("o");
      // An alert about an agent opens its agent's devices instead.
      await page.waitForFunction((told) => {
        const device = document.querySelector("#device h2").innerText;
        const searched = document.querySelector("#search").value;
        return told.includes(device) || (searched !== "" && told.includes(searched));
      }, note);
      await page.locator("#search").fill("");
    });
  }
  await picture(page, "zh-dark");

  await step("the keyboard finds, walks and opens devices", async () => {
    await page.waitForFunction(() => document.querySelectorAll("#device-list li").length > 5);
    await page.keyboard.press("Escape");
    await page.keyboard.press("g");
    await page.keyboard.press("d");
    await page.keyboard.press("j");
    await page.keyboard.press("j");
    const chosen = await page.getAttribute('#device-list li[aria-selected="true"]', "id");
    await page.keyboard.press("Enter");
    await page.waitForSelector(`#${chosen}[data-opened="true"]`);
    const wanted = (await text(page, "#device-list li:nth-child(4) .id")).trim();
    const listed = await page.locator("#device-list li").count();
    await page.keyboard.press("/");
    await page.keyboard.type(wanted);
    // The words are looked for in zones and agents too: `det-11` also finds what the agent `c-det-11` connects.
    await page.waitForFunction(([id, listed]) => {
      const rows = [...document.querySelectorAll("#device-list li")];
      return rows.length < listed && rows.some((row) => row.id === `device-${id}`);
    }, [wanted, listed]);
    await page.keyboard.press("Escape");
    await page.waitForFunction(() => document.querySelectorAll("#device-list li").length > 5);
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
    assert.match(await text(page, "#now-alerts"), /critical[\s\S]*major[\s\S]*warning[\s\S]*info/);
    // The name of the house and the switch to Chinese stay Chinese, and nothing else.
    const left = await page.evaluate(() => {
      const copy = document.body.cloneNode(true);
      copy.querySelectorAll("h1, #language, dialog, #spoken").forEach((part) => part.remove());
      return copy.textContent.match(/[\u4e00-\u9fff]+/g);
    });
    assert.equal(left, null);
  });
  await picture(page, "en-dark");

  await step("the light theme is kept with the language when the page comes again", async () => {
    await page.keyboard.press("t");
    await picture(page, "en-light");
    await page.reload();
    await page.waitForSelector('html[data-connection="live"][data-theme="light"][lang="en"]');
    await page.keyboard.press("l");
    await picture(page, "zh-light");
    await page.keyboard.press("l");
  });

  await step("a phone shows it without scrolling sideways, alerts right under the strip", async () => {
    await page.setViewportSize({ width: 390, height: 844 });
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `${overflow} pixels too wide`);
    await page.waitForFunction(() => Number(document.querySelector("#chart").dataset.points) > 1);
    const tops = await page.evaluate(() =>
      [".strip", "#alerts", "#map", "#device"].map((part) => document.querySelector(part).getBoundingClientRect().top),
    );
    assert.deepEqual(tops, tops.toSorted((a, b) => a - b));
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
