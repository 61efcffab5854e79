// Opens the live page of a running exporter in Chromium and checks what a user sees.
//
// usage: node browser.mjs URL SCREENSHOTS PLAIN LIMITED THROTTLED FAILING
// The last four are names of running containers: one that sleeps, one near its memory limit, one at its CPU limit, one that
// is not healthy. Prints a line per check; exits with 1 if one failed.
import path from "node:path";
import { accessible, cell, check, end, fits, open as openPage, until } from "./harness.mjs";

const [url, screenshots, plain, limited, throttled, failing] = process.argv.slice(2);
const open = (options) => openPage(url, options);

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
    await accessible(page, "in the table");
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
    await accessible(page, "in the detail view");
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
    await page.context().close();
}

async function other() {
    for (const [name, width, options] of [["dark", 1280, { colorScheme: "dark" }], ["phone", 360, {}], ["narrow", 320, { forcedColors: "active", reducedMotion: "reduce" }], ["tablet", 700, {}]]) {
        const page = await open({ viewport: { width, height: 760 }, ...options });
        await until(`${name}: rates are there`, async () => /\d/.test(await cell(page, throttled, "cpu")));
        await fits(page, `(${name})`);
        await page.screenshot({ path: path.join(screenshots, `page-${name}.png`) });
        if (name !== "tablet") await accessible(page, `(${name})`);
        await page.context().close();
    }
}

const page = await table();
await detail(page);
await rests(page);
await other();
await end();
