// The live page with many containers: what it costs the browser.
//
// usage: node large.mjs URL CONTAINERS, the URL of a running exporter, whose document is served
import { browser, check, end, open, until } from "./harness.mjs";
import { exposition, id, play } from "./play.mjs";

const [origin, count] = [process.argv[2], Number(process.argv[3])];
const started = performance.now();

/** Containers that all do something: no counter stands still. */
function busy() {
    const seconds = (performance.now() - started) / 1000;
    return Array.from({ length: count }, (_, number) => ({
        id: id(number),
        name: `service-${number}-of-a-project`,
        image: "registry.example.com/team/service:1.2.3",
        project: `project-${number % 40}`,
        values: {
            container_cpu_usage_seconds_total: 100 + (seconds * (number % 50)) / 100,
            container_cpu_cfs_periods_total: Math.floor(10 * seconds),
            container_cpu_cfs_throttled_periods_total: Math.floor((seconds * (number % 3)) / 2),
            container_network_receive_bytes_total: 1e6 + Math.floor(seconds * number * 1000),
            container_network_transmit_bytes_total: 1e6 + Math.floor(seconds * number * 700),
            container_fs_reads_bytes_total: 4096 * Math.floor(seconds * (number % 9)),
            container_fs_writes_bytes_total: 4096 * Math.floor(seconds * (number % 7)),
            container_oom_events_total: 0,
            container_pressure_cpu_waiting_seconds_total: seconds / (1 + (number % 20)),
            container_pressure_memory_waiting_seconds_total: 0,
            container_pressure_io_waiting_seconds_total: seconds / (2 + (number % 30)),
            container_memory_working_set_bytes: 1e7 + Math.floor(1e5 * (number + seconds)),
            container_memory_usage_bytes: 2e7 + Math.floor(1e5 * (number + seconds)),
            container_memory_swap: 0,
            container_start_time_seconds: 1764470000 + number,
            container_restarts_total: number % 4,
            container_spec_cpu_quota: 200000,
            container_spec_cpu_period: 100000,
            container_spec_memory_limit_bytes: 1073741824,
        },
    }));
}

const player = await play(origin, () => ({ text: exposition(busy(), { container_cpu_usage_seconds_total: performance.now() / 1000 }) }));
const page = await open(player.url, { viewport: { width: 1600, height: 900 } });
const client = await page.context().newCDPSession(page);
// Time of the processor, whoever else uses the machine.
await client.send("Performance.enable", { timeDomain: "threadTicks" });

async function metric(name) {
    const { metrics } = await client.send("Performance.getMetrics");
    return metrics.find((metric) => metric.name === name).value;
}

async function heap() {
    await client.send("HeapProfiler.collectGarbage");
    return metric("JSHeapUsedSize");
}

await until(`${count} containers are in the table`, async () => (await page.locator("#containers tbody a").count()) === count);
const picture = await page.evaluate(() => performance.getEntriesByName("table-drawn")[0].startTime);
console.log(`first picture after ${(picture / 1000).toFixed(2)} s`);

// The first polls compile the script: what comes after them is what a tab costs that stays open.
await until("three polls", () => player.count >= 3);
const [time, work, polls] = [performance.now(), await metric("TaskDuration"), player.count];
await page.waitForTimeout(20000);
const busyShare = ((await metric("TaskDuration")) - work) / ((performance.now() - time) / 1000);
console.log(`main thread busy ${(100 * busyShare).toFixed(1)} % at ${player.count - polls} polls in 20 s`);
check("the main thread is free most of the time", busyShare < 0.3, busyShare);

/** Has the page poll at once, so often. */
async function pollAtOnce(times) {
    for (let turn = 0; turn < times; turn += 1) {
        const before = player.count;
        await page.evaluate(() => {
            document.querySelector("#pause").click();
            document.querySelector("#pause").click();
        });
        const end = Date.now() + 300000;
        while (player.count === before && Date.now() < end) await page.waitForTimeout(10);
        await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    }
}

// Histories are full after 60 polls; nothing may grow after that.
await pollAtOnce(65);
const full = await heap();
await pollAtOnce(65);
const later = await heap();
const MIB = 1024 * 1024;
console.log(`heap ${(full / MIB).toFixed(1)} MiB after 65 more polls, ${(later / MIB).toFixed(1)} MiB after 130`);
check("the heap is flat", later < 1.15 * full + 2 * MIB, [full, later]);
console.log(`${browser.version()}`);
await end();
