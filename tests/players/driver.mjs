// Opens pages in Chromium as lines of JSON on stdin say, and tells what they load and how they play, a line each.
//
//     {"open": "hls.js", "url": "http://127.0.0.1:1/page.html?…"}      {"close": true}: all pages      end of input: quit

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [modules, executablePath, root, trusted] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/`)("playwright-core");

const tell = (line) => process.stdout.write(`${JSON.stringify({ ...line, at: Date.now() / 1000 })}\n`);

const browser = await chromium.launch({
  executablePath,
  args: [
    ...(root === "root" ? ["--no-sandbox"] : []),
    ...(trusted ? [`--ignore-certificate-errors-spki-list=${trusted}`] : []),
    "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--no-first-run",
    "--disable-background-timer-throttling", "--disable-renderer-backgrounding", "--disable-backgrounding-occluded-windows",
  ],
});
let pages = [];

async function open(name, url) {
  const page = await browser.newPage();
  pages.push({ name, page });
  const about = (request) => ({
    player: name, url: request.url(), host: new URL(request.url()).hostname, asked: request.timing().startTime / 1000,
  });
  page.on("response", async (response) => {
    const found = { ...about(response.request()), status: response.status(), type: response.headers()["content-type"] ?? "" };
    const isSteering = /\/v1\/(hls|dash)\/[^/]+\/[^/?]+(\?|$)/.test(found.url);
    if (isSteering) found.body = await response.text().catch(() => "");
    tell({ ...found, event: isSteering ? "steering" : "response" });
  });
  page.on("requestfailed", (request) => tell({ ...about(request), event: "failed" }));
  page.on("pageerror", (error) => tell({ player: name, event: "pageerror", what: String(error) }));
  await page.goto(url);
}

const looking = setInterval(async () => {
  for (const { name, page } of pages) {
    const found = await page.evaluate("state").catch(() => null);
    if (found) tell({ ...found, player: name, event: "state" });
  }
}, 250);

tell({ event: "ready" });
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  if (asked.open) open(asked.open, asked.url).catch((error) => tell({ event: "pageerror", player: asked.open, what: String(error) }));
  if (asked.close) {
    const old = pages;
    pages = [];
    await Promise.all(old.map(({ page }) => page.close()));
    tell({ event: "closed" });
  }
}
clearInterval(looking);
await browser.close();
