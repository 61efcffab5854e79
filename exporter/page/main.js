"use strict";
// The page: polls the exporter, handles controls and keys, and draws the totals of the host.

/** Time between two polls of the slow families. */
const SLOW_SECONDS = 30;
/** Maximum time between two polls after failures, in seconds. */
const MAX_BACKOFF = 30;
const TIMEOUT_SECONDS = 10;
/** Shortest time between two sentences to screen readers. */
const STATUS_SECONDS = 5;

/** Returns the URL of the metrics. It is relative to that of this page, as a proxy may serve both under a prefix. */
function metricsAddress() {
    const folder = location.pathname.endsWith("/") ? location.pathname : `${location.pathname}/`;
    return new URL(`${folder}${document.body.dataset.metrics.replace(/^\//, "")}`, location.origin);
}

class Page {
    constructor() {
        for (const part of [byId("controls"), document.querySelector("main")]) part.hidden = false;
        setText(byId("host-name"), location.hostname);
        document.title = `${location.hostname}: containers`;
        this.options = new Options(this);
        this.model = new Model();
        this.table = new Table(this.options);
        this.detail = new Detail(this.options);
        this.address = metricsAddress();
        this.paused = false;
        this.failures = 0;
        this.wait = 0;
        this.slowAt = -Infinity;
        this.answered = null;
        this.saidAt = -Infinity;
        this.hostCpu = { spark: new Sparkline(), history: new History(300) };
        this.hostNetwork = { spark: new Sparkline(), history: new History(300) };
        byId("host-cpu-spark").append(this.hostCpu.spark.element);
        byId("host-network-spark").append(this.hostNetwork.spark.element);
        this.#controls();
        addEventListener("hashchange", () => this.#readAddress());
        document.addEventListener("visibilitychange", () => (document.hidden ? this.#stop() : this.#resume()));
        addEventListener("pagehide", () => this.#stop());
        addEventListener("pageshow", (event) => event.persisted && this.#resume());
        addEventListener("keydown", (event) => this.#key(event));
        if (!document.hidden) this.#poll();
    }

    #controls() {
        const { options } = this;
        for (const { key, title } of COLUMNS) byId("sort").append(element("option", { value: key }, `Sort: ${title}`));
        const bind = (id, event, change) => byId(id).addEventListener(event, () => (change(byId(id)), this.changed()));
        bind("filter", "input", (input) => (options.query = input.value));
        bind("pace", "change", (select) => (options.pace = Number(select.value)));
        bind("percent", "change", (select) => (options.percent = select.value));
        bind("states", "change", (select) => (options.states = select.value));
        bind("groups", "change", (box) => (options.grouped = box.checked));
        bind("bits", "change", (box) => (options.bits = box.checked));
        byId("sort").addEventListener("change", () => options.sortBy(byId("sort").value));
        byId("unwell").addEventListener("click", () => {
            options.states = options.states === "unwell" ? "all" : "unwell";
            this.changed();
        });
        byId("pause").addEventListener("click", () => this.#togglePause());
        byId("help-button").addEventListener("click", () => byId("help").showModal());
        byId("help-close").addEventListener("click", () => byId("help").close());
        this.#showOptions();
    }

    #showOptions() {
        const { options } = this;
        if (byId("filter").value !== options.query) byId("filter").value = options.query;
        byId("pace").value = String(options.pace);
        byId("percent").value = options.percent;
        byId("states").value = options.states;
        byId("unwell").setAttribute("aria-pressed", String(options.states === "unwell"));
        byId("groups").checked = options.grouped;
        byId("bits").checked = options.bits;
        byId("sort").value = options.sort;
        document.body.classList.toggle("grouped", options.grouped);
    }

    /** Applies changed options. */
    changed() {
        this.options.write();
        this.#showOptions();
        if (this.model.time === null) return;
        this.table.arrange(this.model.time);
        this.table.draw(this.model.time, this.paused);
        this.#drawHost();
    }

    #readAddress() {
        const before = this.options.container;
        this.options.read();
        this.#showOptions();
        if (this.model.time !== null) this.changed();
        if (this.options.container !== before) this.#openDetail();
    }

    #openDetail() {
        const view = this.table.views.get(this.options.container);
        const open = view !== undefined && view.numbers !== null;
        byId("overview").hidden = open;
        if (!open) {
            if (this.detail.id !== null) this.detail.close();
            return;
        }
        if (this.detail.id !== this.options.container) {
            this.detail.open(view);
            scrollTo(0, 0);
            this.#pollNow();
        }
        this.detail.view = view;
    }

    closeDetail() {
        const id = this.options.container;
        this.options.container = null;
        this.options.write();
        this.#openDetail();
        this.table.views.get(id)?.link.focus();
    }

    #key(event) {
        if (event.key === "Escape" && this.options.container !== null && !byId("help").open) {
            this.closeDetail();
            return;
        }
        if (event.ctrlKey || event.altKey || event.metaKey || !byId("containers").contains(document.activeElement))
            return;
        const action = {
            "/": () => byId("filter").focus(),
            s: () => this.#orderControl().focus(),
            p: () => this.#togglePause(),
            t: () => byId("groups").click(),
            "?": () => byId("help").showModal(),
        }[event.key];
        if (action === undefined) return;
        event.preventDefault();
        action();
    }

    /** Returns the control of the order: a list on narrow screens, else the head of the sorted column. */
    #orderControl() {
        const list = byId("sort");
        return list.checkVisibility() ? list : document.querySelector("#containers [aria-sort] button");
    }

    #togglePause() {
        this.paused = !this.paused;
        byId("pause").setAttribute("aria-pressed", String(this.paused));
        setText(byId("pause"), this.paused ? "Resume" : "Pause");
        if (this.paused) {
            this.#stop();
            if (this.model.time !== null) this.table.draw(this.model.time, true);
        } else this.#resume();
    }

    #stop() {
        clearTimeout(this.timer);
        this.abort?.abort();
        this.abort = undefined;
    }

    #resume() {
        if (!this.paused && !document.hidden) this.#pollNow();
    }

    #pollNow() {
        clearTimeout(this.timer);
        if (this.abort === undefined && !this.paused && !document.hidden) this.#poll();
    }

    /**
     * Asks for families. Returns the text, the time of its first byte in seconds of a monotonic clock, and the server's clock
     * in seconds since the epoch.
     */
    async #ask(families, id, signal) {
        const url = new URL(this.address);
        for (const family of families) url.searchParams.append("name[]", family);
        if (id !== undefined) url.searchParams.append("id[]", id);
        const response = await fetch(url, {
            signal,
            cache: "no-store",
            headers: { Accept: "text/plain;version=0.0.4" },
        });
        const arrived = performance.now();
        if (!response.ok)
            throw Object.assign(new Error(`the exporter answers ${response.status}`), { status: response.status });
        const text = await response.text();
        const entry = performance.getEntriesByName(url.href, "resource").at(-1);
        performance.clearResourceTimings();
        const date = Date.parse(response.headers.get("Date"));
        return {
            text,
            time: (entry?.responseStart || arrived) / 1000,
            wallClock: Number.isNaN(date) ? null : date / 1000,
        };
    }

    async #poll() {
        const started = performance.now();
        const abort = new AbortController();
        this.abort = abort;
        const timeout = setTimeout(() => abort.abort(), 1000 * TIMEOUT_SECONDS);
        let wait;
        try {
            await this.#pollOnce(abort.signal);
            this.failures = 0;
            wait = Math.max(1000 * this.options.pace, 20 * (performance.now() - started));
            this.wait = wait / 1000;
        } catch (error) {
            if (this.abort !== abort) return;
            this.failures += 1;
            this.#showFailure(error);
            if (error.status === 401) return;
            wait = Math.min(1000 * MAX_BACKOFF, 1000 * this.options.pace * 2 ** this.failures);
        } finally {
            clearTimeout(timeout);
            if (this.abort === abort) this.abort = undefined;
        }
        if (this.paused || document.hidden) return;
        this.timer = setTimeout(() => this.#poll(), Math.max(0, started + wait - performance.now()));
    }

    async #pollOnce(signal) {
        const slow = performance.now() / 1000 - this.slowAt >= SLOW_SECONDS || this.model.unknown;
        const families = slow ? [...LIVE_FAMILIES, ...SLOW_FAMILIES] : LIVE_FAMILIES;
        const { text, time, wallClock } = await this.#ask(families, undefined, signal);
        // A slow exporter is polled less often than the user wants, which must not count as a gap.
        const pace = Math.max(this.options.pace, this.wait);
        this.model.take(text, time, slow, pace);
        // The limits of a new container are known after a poll of the slow families.
        if (slow) {
            this.slowAt = time;
            this.model.unknown = false;
        }
        this.answered = performance.now();
        byId("connection").hidden = true;
        document.body.classList.remove("stale");
        await new Promise((done) => requestAnimationFrame(done));
        const changes = this.table.take(this.model, time, wallClock);
        if (this.model.poll === 1) performance.mark("table-drawn");
        this.#drawHost();
        this.#report(changes);
        this.#openDetail();
        if (this.detail.id === null) return;
        const { id } = this.detail;
        const answer = await this.#ask(DETAIL_FAMILIES, this.detail.view.row.id, signal);
        if (this.detail.id === id) this.detail.take(answer.text, answer.time, pace, this.model.host);
    }

    #showFailure(error) {
        const age =
            this.answered === null
                ? ""
                : `; the values are ${duration((performance.now() - this.answered) / 1000)} old`;
        const reason =
            error.name === "AbortError"
                ? `no answer within ${TIMEOUT_SECONDS} s`
                : error.status === undefined
                  ? "no answer"
                  : error.message;
        const hint = error.status === 401 ? "sign in again: reload this page" : "asking again";
        setText(byId("connection"), `Stale: ${reason}${age}; ${hint}.`);
        byId("connection").hidden = false;
        document.body.classList.add("stale");
        if (this.failures === 1) this.say("connection lost");
    }

    /** @param {object[]} changes each with the `key` of its row and a `sentence` */
    #report(changes) {
        if (changes.length === 0) return;
        const sentences = changes.slice(0, 3).map(({ sentence }) => sentence);
        const more = changes.length > 3 ? ` and ${changes.length - 3} more` : "";
        this.say(sentences.join("; ") + more);
        for (const { key, sentence } of changes) if (key === this.detail.id) this.detail.event(sentence);
    }

    /** Says a sentence to screen readers, at most one in STATUS_SECONDS. */
    say(sentence) {
        const now = performance.now() / 1000;
        if (now - this.saidAt < STATUS_SECONDS) return;
        this.saidAt = now;
        setText(byId("status"), sentence);
    }

    #drawHost() {
        const { host, rows, time } = this.model;
        const containers = [...rows.values()].filter((row) => isContainer(row.key));
        const stopped = containers.filter((row) => isStopped(row.state)).length;
        const unwell = [...this.table.views.values()].filter((view) => view.hurts).length;
        const counts = [
            `${containers.length - stopped} running`,
            stopped > 0 ? `${stopped} stopped` : "",
            rows.size > containers.length ? `${rows.size - containers.length} cgroups` : "",
        ];
        setText(byId("counts"), counts.filter((text) => text !== "").join(", "));
        setText(byId("unwell"), unwell > 0 ? `▲ ${unwell} not well` : "");
        const cores = host.slow.cores ?? null;
        const cpu = host.rates.cpu === undefined ? null : 100 * host.rates.cpu;
        setText(byId("host-cpu"), `${percentText(cpu)} of ${cores === null ? MISSING : 100 * cores} %`);
        const memory = host.gauges.workingSet ?? null;
        const share = memory === null || !host.slow.memory ? null : (100 * memory) / host.slow.memory;
        const level = severity(share, THRESHOLDS.hostMemoryPercent);
        const swap = host.slow.swapTotal > 0 ? `, swap ${bytes(host.gauges.swap ?? null)}` : "";
        setText(byId("host-memory"), `${MARKS[level]}${bytes(memory)} of ${bytes(host.slow.memory ?? null)}${swap}`);
        setSeverity(byId("host-memory"), level);
        const { receive = null, transmit = null } = host.rates;
        setText(
            byId("host-network"),
            `in ${byteRate(receive, this.options.bits)}/s, out ${byteRate(transmit, this.options.bits)}/s`,
        );
        const read = total(containers.map((row) => row.rates.read ?? null));
        const write = total(containers.map((row) => row.rates.write ?? null));
        setText(byId("host-disk"), `read ${bytes(read)}/s, written ${bytes(write)}/s`);
        const worst = pressure(numbers(host, host));
        const pressed = severity(worst.value, THRESHOLDS.pressurePercent);
        setText(
            byId("host-pressure"),
            worst.value === null ? MISSING : `${MARKS[pressed]}${worst.kind} ${worst.value.toFixed(1)} %`,
        );
        setSeverity(byId("host-pressure"), pressed);
        if (this.drawnAt !== time) {
            this.hostCpu.history.push(time, cpu);
            this.hostNetwork.history.push(time, receive === null ? null : receive + (transmit ?? 0));
            this.drawnAt = time;
        }
        this.hostCpu.spark.draw(this.hostCpu.history.points, time, 100 * (cores ?? 1));
        this.hostNetwork.spark.draw(this.hostNetwork.history.points, time, 1);
        this.#drawNotice();
    }

    #drawNotice() {
        const notices = [];
        if (this.model.dockerUp === 0)
            notices.push("The Docker engine does not answer: names and states are those known before.");
        if (this.model.failedCollectors.length > 0)
            notices.push(
                `Collectors with errors: ${this.model.failedCollectors.join(", ")}. The exporter's log says why.`,
            );
        setText(byId("notice"), notices.join(" "));
        byId("notice").hidden = notices.length === 0;
    }
}

new Page();
