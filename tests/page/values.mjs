// Reads a container's numbers from the live page for a while and prints their means as JSON.
//
// usage: node values.mjs URL NAME SECONDS
import { browser, cell, check, open, until } from "./harness.mjs";

const [url, name, seconds] = process.argv.slice(2);
const page = await open(`${url}#q=${name}&pace=2`);
// The checks are for a reader of a failed test: stdout belongs to the numbers.
console.log = console.error;
const cpu = async () => Number((await cell(page, name, "cpu")).replace(/[▲■]|thr\..*/g, ""));
await until("rates are there", async () => (await cpu()) > 0);
const samples = [];
const end = Date.now() + 1000 * Number(seconds);
let last;
while (Date.now() < end) {
    const [value, memory, requests] = [await cpu(), await cell(page, name, "mem"), page.requests.length];
    // One sample per poll.
    if (requests !== last && Number.isFinite(value)) samples.push({ cpu: value, memory });
    last = requests;
    await page.waitForTimeout(200);
}
check("there are samples", samples.length > 2, samples);
const UNITS = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };
const bytes = (text) => Number(text.split(" ")[0]) * UNITS[text.split(" ")[1]];
const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
const numbers = { cpu: mean(samples.map((sample) => sample.cpu)), memory: mean(samples.map((sample) => bytes(sample.memory))) };
process.stdout.write(`${JSON.stringify(numbers)}\n`);
await browser.close();
