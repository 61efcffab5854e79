// The live page of an exporter whose values come from an engine's API.
//
// usage: node api.mjs URL NAME, the name of a container that uses CPU time up to its limit
import { cell, check, end, open, until } from "./harness.mjs";

const [url, name] = process.argv.slice(2);
const page = await open(`${url}#q=${name}`);
await until("the container has a rate of CPU time", async () => parseFloat((await cell(page, name, "cpu")).replace(/[▲■]/, "")) > 0);
await until("and memory", async () => parseFloat(await cell(page, name, "mem")) > 0);
check("its state is known", /running/.test(await cell(page, name, "state")), await cell(page, name, "state"));
await page.locator("#containers tbody a").click();
await until("the detail view has charts", async () => (await page.locator("#detail svg.chart:not(.empty)").count()) >= 2);
await end();
