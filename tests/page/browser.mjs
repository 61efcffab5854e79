// Opens the live page of a running exporter in Chromium and checks what a user sees.
//
// usage: node browser.mjs URL SCREENSHOTS PLAIN LIMITED THROTTLED FAILING
// The last four are names of running containers: one that sleeps, one near its memory limit, one at its CPU limit, one that
// is not healthy. Prints a line per check; exits with 1 if one failed.
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url, screenshots, plain, limited, throttled, failing] = process.argv.slice(2);
const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const failures = [];

function check(what, good, seen) {
    console.log(`${good ? "ok" : "FAILED"}: ${what}${good ? "" : `; seen: ${JSON.stringify(seen)}`}`);
    if (!good) failures.push(what);
}

const browser = await chromium.launch({
    executablePath: ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find((file) => fs.existsSync(file)),
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** Opens the page; every console error, every exception and every request but the metrics is a failure. */
async function open(options, address = url) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.requests = [];
    page.on("console", (message) => message.type() === "error" && !page.expectErrors && check("no error in the console", false, message.text()));
    page.on("pageerror", (error) => check("no exception", false, error.stack));
    page.on("request", (request) => page.requests.push(request.url()));
    await page.goto(address);
    return page;
}

const cell = (page, name, key) => page.locator(`#containers tbody tr:has(a:text-is("${name}")) .${key}`).innerText();

async function until(what, condition, seconds = 60) {
    const end = Date.now() + 1000 * seconds;
    let seen;
    while (Date.now() < end) {
        seen = await condition().catch((error) => error.message);
        if (seen === true) return check(what, true);
        await new Promise((done) => setTimeout(done, 250));
    }
    check(what, false, seen);
}

async function serious(page) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    return violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 120)}`);
}

async function table() {
    const page = await open({ viewport: { width: 1600, height: 800 }, colorScheme: "light" });
    await until("all containers are in the table", async () => {
        const names = await page.locator("#containers tbody a").allInnerTexts();
        return [plain, limited, throttled, failing].every((name) => names.includes(name));
    });
    await until("the throttled container stands out", async () => /■ .* thr\. \d+/.test(await cell(page, throttled, "cpu")));
    await until("the failing container stands out", async () => (await cell(page, failing, "state")).startsWith("■ failing"));
    await until("memory near its limit stands out", async () => /[▲■] \d+/.test(await cell(page, limited, "pct")));
    check("no rate is shown before it is known, then a number", /\d/.test(await cell(page, plain, "cpu")), await cell(page, plain, "cpu"));
    const first = () => page.locator("#containers tbody a").first().innerText();
    await page.click('#containers thead .name button');
    const ascending = await first();
    check("names ascend at the first click", (await page.getAttribute("#containers thead .name", "aria-sort")) === "ascending");
    await page.click('#containers thead .name button');
    check("a second click turns the order", (await first()) !== ascending, ascending);
    await page.click('#containers thead .mem button');
    check("numbers descend at the first click", (await page.getAttribute("#containers thead .mem", "aria-sort")) === "descending");
    await page.fill("#filter", throttled.toUpperCase());
    check("the filter leaves one container", (await page.locator("#containers tbody a").count()) === 1);
    check("the address keeps order and filter", /sort=-mem/.test(page.url()) && page.url().includes(`q=${throttled.toUpperCase()}`), page.url());
    await page.fill("#filter", "");
    await page.check("#groups");
    check("projects have a line with sums", (await page.locator("#containers tr.group").count()) >= 2);
    await page.uncheck("#groups");
    check("axe finds nothing serious in the table", (await serious(page)).length === 0, await serious(page));
    await page.screenshot({ path: path.join(screenshots, "page-light.png") });
    const foreign = page.requests.filter((request) => !request.startsWith(new URL("metrics", url).href) && request !== url);
    check("no request but the page and the metrics", foreign.length === 0, foreign);
    check("hostile markup in a label is text", (await page.evaluate(() => window.hostile)) === undefined);
    return page;
}

async function detail(page) {
    await page.locator(`#containers tbody a:text-is("${throttled}")`).click();
    await until("the detail view draws its charts", async () => (await page.locator("#detail svg.chart:not(.empty)").count()) >= 4);
    await until("throttling is in the detail view", async () => /throttled: now \d+/.test(await page.locator("#detail").innerText()));
    check("axe finds nothing serious in the detail view", (await serious(page)).length === 0, await serious(page));
    await page.locator("#detail details summary").first().click();
    await until("a chart is also a table", async () => (await page.locator("#detail details table tbody tr").count()) >= 1);
    await page.screenshot({ path: path.join(screenshots, "page-detail.png"), fullPage: true });
    await page.keyboard.press("Escape");
    check("Esc closes it and gives the focus back", (await page.evaluate(() => document.activeElement.textContent)) === throttled);
    await page.keyboard.press("ArrowUp");
    check("arrows move the focus", (await page.evaluate(() => document.activeElement.matches("#containers tbody a"))) === true);
}

async function rests(page) {
    await page.evaluate(() => {
        Object.defineProperty(document, "hidden", { get: () => true, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    });
    const before = page.requests.length;
    await page.waitForTimeout(6000);
    check("a hidden page asks nothing", page.requests.length === before, page.requests.length - before);
    await page.evaluate(() => {
        Object.defineProperty(document, "hidden", { get: () => false, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    });
    await until("a page that is seen again asks again", async () => page.requests.length > before);
    page.expectErrors = true;
    for (const [status, words] of [[503, "Stale: the exporter answers 503"], [401, "sign in again"]]) {
        await page.route("**/metrics?*", (route) => route.fulfill({ status, body: "no" }));
        await until(`${status} is told and the values stay`, async () => (await page.innerText("#connection")).includes(words) && (await page.locator("#containers tbody a").count()) > 0);
        check("axe finds nothing serious without connection", (await serious(page)).length === 0, await serious(page));
        await page.unroute("**/metrics?*");
        await page.click("#pause");
        await page.click("#pause");
        await until("the page recovers", async () => page.locator("#connection").isHidden());
    }
    await page.context().close();
}

async function other() {
    for (const [name, width, options] of [["dark", 1280, { colorScheme: "dark" }], ["phone", 360, {}], ["narrow", 320, { forcedColors: "active", reducedMotion: "reduce" }], ["tablet", 700, {}]]) {
        const page = await open({ viewport: { width, height: 760 }, ...options });
        await until(`${name}: rates are there`, async () => /\d/.test(await cell(page, throttled, "cpu")));
        const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        check(`${name}: nothing scrolls sideways at ${width} px`, content <= window, [content, window]);
        await page.screenshot({ path: path.join(screenshots, `page-${name}.png`) });
        if (name === "phone") check("phone: axe finds nothing serious", (await serious(page)).length === 0, await serious(page));
        await page.context().close();
    }
}

const page = await table();
await detail(page);
await rests(page);
await other();
await browser.close();
process.exit(failures.length === 0 ? 0 : 1);
