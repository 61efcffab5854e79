// The live page over metrics that are played: faults of the exporter, counters that fall, hostile names, other cgroups.
//
// usage: node faults.mjs URL, that of a running exporter, whose document is served
import { accessible, cell, check, end, fits, open, until } from "./harness.mjs";
import { exposition, id, play } from "./play.mjs";

const MIB = 1024 * 1024;
const HOSTILE = `evil<img src=x onerror='window.hostile=1'>\u001b[2J\u202e\u2066${"w".repeat(64 * 1024)}`;
const origin = process.argv[2];

/** One container after so many seconds of a steady half core. */
function web(seconds, values = {}) {
    return {
        id: id(1),
        name: "web",
        image: "web:1",
        project: "shop",
        values: {
            container_cpu_usage_seconds_total: seconds / 2,
            container_memory_working_set_bytes: 100 * MIB,
            container_network_receive_bytes_total: 1000 * seconds,
            container_start_time_seconds: 1000,
            container_restarts_total: 0,
            ...values,
        },
    };
}

const now = () => performance.now() / 1000;
/** A poll's number is the host's memory in MiB: it tells which poll is on the screen. */
const at = (number, containers) => ({ text: exposition(containers, { container_memory_working_set_bytes: number * MIB, container_cpu_usage_seconds_total: now() }) });

const player = await play(origin, (number) => at(number, [web(now())]));

/** Has the page poll once more, and waits until the poll is drawn. */
async function poll(page) {
    const next = player.count + 1;
    // Not by the mouse, which would move the focus.
    await page.evaluate(() => {
        document.querySelector("#pause").click();
        document.querySelector("#pause").click();
    });
    await until(`poll ${next} is drawn`, async () => (await page.innerText("#host-memory")).includes(`${next >= 100 ? next : next >= 10 ? `${next}.0` : `${next}.00`} MiB of`));
}

async function counters() {
    player.answer = (number) => at(number, [web(now())]);
    const page = await open(`${player.url}#pace=30`);
    await until("the first poll has no rate", async () => (await cell(page, "web", "cpu")) === "–");
    await poll(page);
    const steady = await cell(page, "web", "cpu");
    check("the second poll has one", Number(steady) > 0, steady);
    player.answer = (number) => at(number, [web(now() - 1e6, { container_cpu_usage_seconds_total: 0.001 })]);
    await poll(page);
    check("a counter that fell is a gap", (await cell(page, "web", "cpu")) === "–", await cell(page, "web", "cpu"));
    check("so are the other rates of the container", (await cell(page, "web", "in")) === "–", await cell(page, "web", "in"));
    player.answer = (number) => at(number, [web(now(), { container_start_time_seconds: 2000, container_restarts_total: 1 })]);
    await poll(page);
    check("another run is a gap, though every counter is higher", (await cell(page, "web", "cpu")) === "–", await cell(page, "web", "cpu"));
    await until("a restart is marked", async () => (await cell(page, "web", "state")).startsWith("▲"));
    player.answer = (number) => ({ ...at(number, [web(now(), { container_start_time_seconds: 2000 })]), headers: { Date: "Thu, 01 Jan 2099 00:00:00 GMT" } });
    await poll(page);
    check("a clock that jumps does not touch rates", Number(await cell(page, "web", "cpu")) > 0, await cell(page, "web", "cpu"));
    player.answer = (number) => at(number, [{ ...web(now()), values: { container_memory_working_set_bytes: MIB } }]);
    await poll(page);
    check("a value that is missing is no zero", (await cell(page, "web", "cpu")) === "–", await cell(page, "web", "cpu"));
    player.answer = (number) => at(number, []);
    await poll(page);
    check("a container that is gone has no row", (await page.locator("#containers tbody tr").count()) === 0);
    check("a table without rows says so", (await page.innerText("#nothing")).length > 0);
    await page.context().close();
}

async function faults() {
    player.answer = (number) => at(number, [web(now())]);
    const page = await open(`${player.url}#pace=1`);
    await until("the container is there", async () => /\d/.test(await cell(page, "web", "cpu")));
    page.expectErrors = true;
    const all = [
        [{ status: 429 }, "the exporter answers 429"],
        [{ status: 503 }, "the exporter answers 503"],
        [{ drop: true }, "no answer"],
        [{ status: 401 }, "sign in again"],
    ];
    for (const [answer, words] of all) {
        player.answer = () => answer;
        await until(`“${words}” is told, and the values stay`, async () => (await page.innerText("#connection")).includes(words) && (await cell(page, "web", "mem")).startsWith("100"));
        check("values of before are marked", await page.evaluate(() => document.body.classList.contains("stale")));
        await accessible(page, `without connection (${words})`);
        player.answer = (number) => at(number, [web(now())]);
        if (answer.status === 401) {
            const before = player.count;
            await page.waitForTimeout(3000);
            check("after 401 nothing is asked", player.count === before, player.count - before);
            await page.click("#pause");
            await page.click("#pause");
        }
        await until("the page recovers by itself", async () => (await page.locator("#connection").isHidden()) && /\d/.test(await cell(page, "web", "cpu")));
    }
    await page.context().close();
}

async function trouble() {
    const limits = { container_spec_memory_limit_bytes: 100 * MIB, container_memory_working_set_bytes: 99 * MIB };
    const all = (seconds) => [web(seconds), { ...web(seconds, limits), id: id(2), name: "full" }, { ...web(seconds), id: id(3), name: "again", state: "restarting" }];
    player.answer = (number) => at(number, all(now()));
    const page = await open(`${player.url}#sort=state&pace=30`);
    await until("the head counts what hurts", async () => (await page.innerText("#unwell")) === "▲ 2 not well");
    check("what hurts comes first in the order of states", (await page.locator("#containers tbody a").allInnerTexts()).join() === "again,full,web");
    await page.click("#unwell");
    check("a click shows what hurts alone", (await page.locator("#containers tbody a").allInnerTexts()).join() === "again,full" && page.url().includes("state=unwell"));
    await page.click("#unwell");
    check("another shows all", (await page.locator("#containers tbody a").count()) === 3);
    await page.context().close();
}

async function hostile() {
    const values = { container_memory_working_set_bytes: MIB };
    const names = [
        { id: id(1), name: HOSTILE, image: HOSTILE, project: HOSTILE, state: HOSTILE.slice(0, 40), values },
        { id: `/system.slice/${HOSTILE}`, state: null, values },
        { id: id(2), name: "__proto__", project: "constructor", values },
    ];
    player.answer = (number) => at(number, names);
    const page = await open(`${player.url}#pace=30&groups=1`, { viewport: { width: 1280, height: 800 } });
    await until("all rows are there", async () => (await page.locator("#containers tbody a").count()) === 3);
    for (const width of [1280, 360]) {
        await page.setViewportSize({ width, height: 800 });
        await fits(page, "with hostile names");
    }
    const text = await page.innerText("#containers");
    check("control and bidirectional characters are replaced", /evil<img src=x onerror='window\.hostile=1'>\ufffd\[2J\ufffd\ufffdw/.test(text) && !/[\u001b\u202e\u2066]/.test(text), text.slice(0, 200));
    await page.locator("#containers tbody a").nth(1).click();
    await until("the detail view opens", async () => (await page.locator("#detail h2").count()) === 1);
    await fits(page, "in the detail view of a hostile name");
    check("hostile markup is text", (await page.evaluate(() => window.hostile)) === undefined);
    await page.context().close();
}

async function cgroups() {
    const values = { container_memory_working_set_bytes: MIB, container_fs_reads_bytes_total: 1 };
    const inner = `${id(1)}/docker/${"f".repeat(64)}`;
    player.answer = (number) => at(number, [web(now()), { id: inner, state: null, values }, { id: "/system.slice/ssh.service", state: null, values }]);
    const page = await open(`${player.url}#pace=30`);
    await until("a container in a container and a service have rows of their own", async () => (await page.locator("#containers tbody a").count()) === 3);
    check("a service is no container", (await cell(page, "/system.slice/ssh.service", "state")) === "cgroup", await cell(page, "/system.slice/ssh.service", "state"));
    check("containers and cgroups are counted apart", (await page.innerText("#counts")) === "2 running, 1 cgroups", await page.innerText("#counts"));
    await page.check("#groups");
    await until("cgroups are a group of their own", async () => (await page.innerText("#containers")).includes("cgroups, not containers"));
    await page.context().close();
}

async function prefix() {
    player.answer = (number) => at(number, [web(now())]);
    for (const path of ["exporter", "exporter/"]) {
        const page = await open(`${player.url}${path}`);
        await until(`/${path} asks below its prefix`, async () => player.path === "/exporter/metrics" && (await cell(page, "web", "mem")).startsWith("100"));
        await page.context().close();
    }
}

async function keyboard() {
    const many = (number) => at(number, [web(now()), ...Array.from({ length: 30 }, (_, index) => ({ ...web(now()), id: id(index + 2), name: `other-${index}` }))]);
    player.answer = many;
    const page = await open(`${player.url}#sort=name&pace=30`);
    await until("all rows are there", async () => (await page.locator("#containers tbody a").count()) === 31);
    const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent);
    const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
    await page.focus("#filter");
    for (let presses = 0; presses < 60 && !(await page.evaluate(() => document.activeElement.matches("#containers tbody a"))); presses += 1) await press("Tab");
    check("Tab reaches the table", (await focused()) === "other-0", await focused());
    await press("ArrowDown", "End", "Home", "PageDown", "ArrowUp");
    const there = await focused();
    check("arrows, Home, End and Page Down move", there.startsWith("other-") && there !== "other-0", there);
    for (let count = 0; count < 10; count += 1) await poll(page);
    check("the focus stays on its container while polls come", (await focused()) === there, await focused());
    await press("Enter");
    await until("Enter opens the container", async () => (await page.innerText("#detail h2")) === there);
    await press("Escape");
    check("Esc closes it and gives the focus back", (await focused()) === there, await focused());
    await press("p");
    check("p pauses", (await page.innerText("#pause")) === "Resume");
    await accessible(page, "in a pause");
    await press("p", "t");
    check("t groups", await page.isChecked("#groups"));
    await press("?");
    check("? opens the help", await page.locator("#help").isVisible());
    await accessible(page, "in the help");
    await press("Escape", "s");
    check("s goes to the order", (await focused()).length > 0 && (await page.evaluate(() => document.activeElement.closest("#sort, thead") !== null)), await focused());
    await page.locator("#containers tbody a").first().focus();
    await press("/");
    check("/ goes to the filter", (await focused()) === "filter", await focused());
    await page.keyboard.type("sp?t");
    check("letters are text in the filter", (await page.inputValue("#filter")) === "sp?t");
    await page.context().close();
}

await counters();
await faults();
await trouble();
await hostile();
await cgroups();
await prefix();
await keyboard();
await end();
