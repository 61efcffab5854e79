// Takes the screenshots of the documentation.
//
// usage: node screenshots.mjs URL FOLDER HURTS, the name of a container that is throttled
import fs from "node:fs";
import path from "node:path";
import { cell, end, open, until } from "./harness.mjs";

const [url, folder, hurts] = process.argv.slice(2);

async function take(file, options, address = url, ready = async () => {}) {
    const page = await open(address, options);
    // Sparklines and pressure need some polls.
    await until("the rates are there", async () => /thr\./.test(await cell(page, hurts, "cpu")));
    await page.waitForTimeout(30000);
    await ready(page);
    const client = await page.context().newCDPSession(page);
    const { data } = await client.send("Page.captureScreenshot", { format: "webp", quality: 70 });
    fs.writeFileSync(path.join(folder, file), Buffer.from(data, "base64"));
    await page.context().close();
}

const desktop = { viewport: { width: 1440, height: 760 } };
await Promise.all([
    take("page-light.webp", { ...desktop, colorScheme: "light" }, `${url}#sort=state`),
    take("page-dark.webp", { ...desktop, colorScheme: "dark" }, `${url}#groups=1`),
    take("page-phone.webp", { viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, colorScheme: "light" }),
    take("page-detail.webp", { viewport: { width: 1440, height: 1000 }, colorScheme: "light" }, url, async (page) => {
        await page.locator(`#containers tbody a:text-is("${hurts}")`).click();
        await until("the charts have a line", async () => (await page.locator("#detail svg.chart:not(.empty)").count()) >= 4);
        await page.waitForTimeout(30000);
    }),
]);
await end();
