// What the browser tests share: Chromium, checks with a line each, waiting for conditions.
import fs from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const axe = fs.readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const failures = [];
/** A limit ends only what hangs: other tests use the machine, too. */
const PATIENCE_SECONDS = 300;

export function check(what, good, seen) {
    console.log(`${good ? "ok" : "FAILED"}: ${what}${good ? "" : `; seen: ${JSON.stringify(seen)}`}`);
    if (!good) failures.push(what);
}

/** Waits until `condition` gives true; else the check fails with what it gave last. */
export async function until(what, condition) {
    const end = Date.now() + 1000 * PATIENCE_SECONDS;
    let seen;
    while (Date.now() < end) {
        seen = await Promise.resolve()
            .then(condition)
            .catch((error) => error.message);
        if (seen === true) return check(what, true);
        await new Promise((done) => setTimeout(done, 100));
    }
    check(what, false, seen);
}

export const browser = await chromium.launch({
    executablePath: ["/usr/bin/chromium", "/usr/bin/chromium-browser"].find((file) => fs.existsSync(file)),
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** Opens the page. Every console error, exception and violation of the Content-Security-Policy is a failure. */
export async function open(address, options = {}) {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.setDefaultTimeout(1000 * PATIENCE_SECONDS);
    page.requests = [];
    page.on("console", (message) => message.type() === "error" && !page.expectErrors && check("no error in the console", false, message.text()));
    page.on("pageerror", (error) => check("no exception", false, error.stack));
    page.on("request", (request) => page.requests.push(request.url()));
    await page.exposeFunction("violated", (what) => check("no violation of the Content-Security-Policy", false, what));
    await page.addInitScript(() => addEventListener("securitypolicyviolation", (event) => window.violated(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`)));
    await page.goto(address);
    return page;
}

/** Returns the text of a container's cell. */
export const cell = (page, name, key) => page.locator(`#containers tbody tr:has(a:text-is("${name}")) .${key}`).innerText();

/** Checks that axe finds nothing serious. */
export async function accessible(page, where) {
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => window.axe.run());
    const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
    check(`axe finds nothing serious ${where}`, serious.length === 0, serious.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 120)}`));
}

/** Checks that nothing scrolls sideways. */
export async function fits(page, where) {
    const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    check(`nothing scrolls sideways ${where} at ${width} px`, content <= width, content);
}

/** Ends the browser and the process: with 1 where a check failed. */
export async function end() {
    await browser.close();
    process.exit(failures.length === 0 ? 0 : 1);
}
