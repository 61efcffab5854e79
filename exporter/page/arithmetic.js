"use strict";
// Reads the text exposition and turns counters into rates. It does not use the DOM, so that the tests can run it in Node.
// `top` computes the same in `exporter/src/top`.

/** Counters whose increases are summed over all label sets of a container, with the name of the sum. */
const COUNTERS = new Map(
    Object.entries({
        container_cpu_usage_seconds_total: "cpu",
        container_cpu_cfs_periods_total: "periods",
        container_cpu_cfs_throttled_periods_total: "throttled",
        container_network_receive_bytes_total: "receive",
        container_network_transmit_bytes_total: "transmit",
        container_ebpf_network_receive_bytes_total: "ebpfReceive",
        container_ebpf_network_transmit_bytes_total: "ebpfTransmit",
        container_fs_reads_bytes_total: "read",
        container_fs_writes_bytes_total: "write",
        container_oom_events_total: "oomKills",
    }),
);

/** Counters of pressure. The kernel updates them every two seconds, so their increase is taken over PRESSURE_SPAN. */
const PRESSURES = new Map(
    Object.entries({
        container_pressure_cpu_waiting_seconds_total: "pressureCpu",
        container_pressure_memory_waiting_seconds_total: "pressureMemory",
        container_pressure_io_waiting_seconds_total: "pressureIo",
    }),
);

/** Gauges that are asked for at each poll, with the name of the value. */
const GAUGES = new Map(
    Object.entries({
        container_memory_working_set_bytes: "workingSet",
        container_memory_usage_bytes: "usage",
        container_memory_swap: "swap",
        container_start_time_seconds: "startTime",
        container_finish_time_seconds: "finishTime",
        container_restarts_total: "restarts",
        container_exit_code: "exitCode",
        container_oom_killed: "oomKilled",
        container_health_state: "healthState",
        container_health_failing_streak: "failingStreak",
    }),
);

/** Gauges that change rarely. They are asked for at the start, every 30 seconds, and after a container is found. */
const SLOW_GAUGES = new Map(
    Object.entries({
        container_spec_cpu_quota: "cpuQuota",
        container_spec_cpu_period: "cpuPeriod",
        container_spec_memory_limit_bytes: "memoryLimit",
        container_threads: "threads",
        container_threads_max: "threadsMax",
        container_fs_usage_bytes: "layer",
        machine_cpu_cores: "cores",
        machine_memory_bytes: "memory",
        machine_swap_bytes: "swapTotal",
    }),
);

const LIVE_FAMILIES = [...COUNTERS.keys(), ...PRESSURES.keys(), ...GAUGES.keys(), "container_state"];
const SLOW_FAMILIES = [
    ...SLOW_GAUGES.keys(),
    "container_info",
    "docker_stats_exporter_docker_up",
    "docker_stats_exporter_scrape_collector_success",
];

/** Shortest time over which pressure is computed, in seconds. */
const PRESSURE_SPAN = 10;
/** Weight of the newest rate in a smoothed rate. */
const SMOOTHING = 0.3;
/** Maximum time between two polls that gives a rate, in intervals. */
const GAP_INTERVALS = 3;

/**
 * Returns the key of a row: the last 64 hexadecimal digits in a cgroup's path, else the path. The path of a container in a
 * container has the ids of both.
 */
function rowKey(id) {
    const digits = id.match(/(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])/g);
    return digits === null ? id : digits.at(-1);
}

/** Returns whether a row is a container, and not a cgroup that `--cgroups.include` names. */
const isContainer = (key) => !key.startsWith("/");

/** Returns whether a state is that of a container that has ended or has not begun. */
const isStopped = (state) => !["running", "paused", "restarting", null].includes(state);

/** Parses labels of the form `a="b",c="d"` and undoes the escapes of their values. */
function parseLabels(text) {
    const labels = {};
    for (const [, name, value] of text.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g)) {
        labels[name] = value.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
    }
    return labels;
}

/** Calls `use(family, labels, value)` for each sample, with the labels as text. Skips values that are not finite. */
function eachSample(text, use) {
    let start = 0;
    while (start < text.length) {
        let end = text.indexOf("\n", start);
        if (end < 0) end = text.length;
        if (text.charCodeAt(start) !== 35 && end > start) {
            const space = text.lastIndexOf(" ", end - 1);
            const brace = text.indexOf("{", start);
            const labelled = brace >= 0 && brace < space;
            const value = space > start ? Number(text.slice(space + 1, end)) : NaN;
            if (Number.isFinite(value)) {
                const family = text.slice(start, labelled ? brace : space);
                use(family, labelled ? text.slice(brace + 1, space - 1) : "", value);
            }
        }
        start = end + 1;
    }
}

/** The values of one container, or of the host (`id="/"`). */
class Row {
    constructor(key, id) {
        this.key = key;
        this.id = id;
        this.name = "";
        this.image = "";
        this.project = null;
        this.info = null;
        this.state = null;
        this.gauges = {};
        this.slow = {};
        this.increase = {};
        this.pressure = {};
        this.pressures = [];
        this.seen = 0;
        this.dropped = false;
        this.startTime = undefined;
        this.gap = false;
        this.rates = {};
        this.smooth = {};
    }
}

/** All rows, with the values that the next poll is compared with. */
class Model {
    constructor() {
        this.rows = new Map();
        this.host = new Row("/", "/");
        this.dockerUp = null;
        this.failedCollectors = [];
        this.poll = 0;
        this.time = null;
        this.interval = null;
        this.unknown = false;
        this.labelSets = new Map();
    }

    /**
     * Takes one exposition.
     * @param {string} text the answer of /metrics
     * @param {number} time when the first byte of the answer arrived, in seconds of a monotonic clock
     * @param {boolean} slow whether the slow families were asked for
     * @param {number} pace the expected time between polls in seconds
     */
    take(text, time, slow, pace) {
        this.poll += 1;
        this.unknown = false;
        if (slow) this.#forgetSlow();
        for (const row of this.#all()) {
            row.gauges = {};
            row.increase = {};
            row.state = null;
            row.gap = false;
            row.pressure = {};
        }
        const moved = this.#readSamples(text, slow);
        const elapsed = this.time === null ? null : time - this.time;
        // The exporter answered with the collection of the last poll: its rates stay.
        if (elapsed !== null && !moved && elapsed < GAP_INTERVALS * pace) return;
        this.interval = elapsed !== null && elapsed > 0 && elapsed <= GAP_INTERVALS * pace ? elapsed : null;
        this.time = time;
        for (const row of this.#all()) this.#settleRates(row);
        for (const [key, row] of this.rows) {
            if (row.seen === this.poll) continue;
            row.dropped = true;
            this.rows.delete(key);
        }
        if (slow) this.#dropOldLabelSets();
    }

    *#all() {
        yield this.host;
        yield* this.rows.values();
    }

    #forgetSlow() {
        this.failedCollectors = [];
        this.dockerUp = null;
        for (const row of this.#all()) {
            row.slow = {};
            row.info = null;
        }
    }

    /** Takes the samples. Returns whether a counter differs from that of the last poll. */
    #readSamples(text, slow) {
        let moved = false;
        eachSample(text, (family, labelText, value) => {
            const set = this.#labelSet(labelText);
            const row = set.row;
            if (row === null) {
                this.#readOwn(family, set.labels, value);
                return;
            }
            if (row.seen !== this.poll) this.#see(row, set.labels);
            const counter = COUNTERS.get(family);
            if (counter !== undefined) {
                moved = this.#count(row, set, family, counter, value) || moved;
                return;
            }
            const pressure = PRESSURES.get(family);
            if (pressure !== undefined) {
                row.pressure[pressure] = value;
                return;
            }
            const gauge = GAUGES.get(family);
            if (gauge !== undefined) row.gauges[gauge] = value;
            else if (family === "container_state" && value === 1) row.state = set.labels.state;
            else if (family === "container_info") row.info = set.labels;
            else if (slow) this.#readSlow(row, family, value);
        });
        return moved;
    }

    #readSlow(row, family, value) {
        const name = SLOW_GAUGES.get(family);
        if (name === undefined) return;
        // The filesystems of a container add up. The other gauges have one sample.
        row.slow[name] = name === "layer" ? (row.slow[name] ?? 0) + value : value;
    }

    #readOwn(family, labels, value) {
        if (family === "docker_stats_exporter_docker_up") {
            this.dockerUp = this.dockerUp === null ? value : Math.min(this.dockerUp, value);
        } else if (family === "docker_stats_exporter_scrape_collector_success") {
            if (value === 0) this.failedCollectors.push(labels.collector);
        } else if (SLOW_GAUGES.has(family)) {
            this.host.slow[SLOW_GAUGES.get(family)] = value;
        }
    }

    #labelSet(text) {
        let set = this.labelSets.get(text);
        if (set === undefined) {
            set = { labels: parseLabels(text), row: null, values: new Map(), poll: 0 };
            this.labelSets.set(text, set);
        }
        // A container that has gone and come back has a new row.
        if (set.labels.id !== undefined && (set.row === null || set.row.dropped)) set.row = this.#rowOf(set.labels.id);
        set.poll = this.poll;
        return set;
    }

    #rowOf(id) {
        if (id === "/") return this.host;
        const key = rowKey(id);
        let row = this.rows.get(key);
        if (row === undefined) {
            row = new Row(key, id);
            this.rows.set(key, row);
            this.unknown = true;
        }
        return row;
    }

    #see(row, labels) {
        row.seen = this.poll;
        if (row === this.host) return;
        row.id = labels.id;
        row.name = labels.name ?? "";
        row.image = labels.image ?? "";
        row.project =
            labels.container_label_com_docker_compose_project ||
            labels.container_label_com_docker_stack_namespace ||
            null;
    }

    #count(row, set, family, sum, value) {
        const before = set.values.get(family);
        if (before === undefined) {
            set.values.set(family, { value, poll: this.poll });
            return true;
        }
        if (before.poll === this.poll - 1) {
            const increase = value - before.value;
            if (increase < 0) row.gap = true;
            else row.increase[sum] = (row.increase[sum] ?? 0) + increase;
        }
        const moved = before.value !== value;
        before.value = value;
        before.poll = this.poll;
        return moved;
    }

    #settleRates(row) {
        const start = row.gauges.startTime;
        if (start !== row.startTime && row.startTime !== undefined) row.gap = true;
        row.startTime = start;
        const whole = this.interval !== null && !row.gap;
        row.rates = {};
        if (whole) {
            for (const [name, increase] of Object.entries(row.increase)) row.rates[name] = increase / this.interval;
            row.rates.oomKills = row.increase.oomKills;
            if (row.increase.periods > 0)
                row.rates.throttledShare = (row.increase.throttled ?? 0) / row.increase.periods;
        }
        this.#settlePressure(row);
        for (const name of ["cpu", "receive", "transmit", "read", "write"]) {
            const rate = row.rates[name];
            if (rate === undefined) continue;
            const before = row.smooth[name] ?? rate;
            row.smooth[name] = before + SMOOTHING * (rate - before);
        }
    }

    #settlePressure(row) {
        if (row.gap || this.interval === null) row.pressures = [];
        row.pressures.push({ time: this.time, ...row.pressure });
        // The newest entry that is at least PRESSURE_SPAN old is the base.
        while (row.pressures.length > 1 && this.time - row.pressures[1].time >= PRESSURE_SPAN) row.pressures.shift();
        const base = row.pressures[0];
        const span = this.time - base.time;
        if (span < PRESSURE_SPAN) return;
        for (const name of PRESSURES.values()) {
            const increase = row.pressure[name] - base[name];
            if (increase >= 0) row.rates[name] = Math.min(100, (100 * increase) / span);
        }
    }

    #dropOldLabelSets() {
        for (const [text, set] of this.labelSets) if (set.poll !== this.poll) this.labelSets.delete(text);
    }
}

const orNull = (value) => (value === undefined || Number.isNaN(value) ? null : value);
const percent = (share) => (share === undefined ? null : 100 * share);

/** Returns the health of a container as a word; null without a health check. */
function health(gauges) {
    if (gauges.healthState === undefined || gauges.healthState < 0) return null;
    if (gauges.healthState === 1) return "healthy";
    return gauges.failingStreak > 0 ? "failing" : "starting";
}

/** Returns the cores of a container's CPU quota; null without one. */
function cpuLimit(slow) {
    return slow.cpuQuota > 0 && slow.cpuPeriod > 0 ? slow.cpuQuota / slow.cpuPeriod : null;
}

/** Returns a container's memory limit; null if there is none, or if it is not below the host's memory. */
function memoryLimit(slow, host) {
    const limit = slow.memoryLimit;
    return limit > 0 && !(limit >= host.slow.memory) ? limit : null;
}

/** Returns a container's numbers under the keys of `top --json`. */
function numbers(row, host) {
    const { gauges, slow, rates } = row;
    const limit = memoryLimit(slow, host);
    const ceiling = limit ?? orNull(host.slow.memory);
    const workingSet = orNull(gauges.workingSet);
    const interfaces = rates.receive !== undefined || rates.transmit !== undefined;
    const ebpf = !interfaces && (rates.ebpfReceive !== undefined || rates.ebpfTransmit !== undefined);
    return {
        id: row.key,
        cgroup: row.id,
        name: row.name === "" ? null : row.name,
        image: row.image === "" ? null : row.image,
        project: row.project,
        state: row.state,
        health: health(gauges),
        health_failing_streak: orNull(gauges.failingStreak),
        exit_code: orNull(gauges.exitCode),
        oom_killed: gauges.oomKilled === undefined ? null : gauges.oomKilled === 1,
        restarts: orNull(gauges.restarts),
        start_time: orNull(gauges.startTime),
        cpu_percent: percent(rates.cpu),
        cpu_limit_cores: cpuLimit(slow),
        cpu_throttled_percent: percent(rates.throttledShare),
        memory_working_set_bytes: workingSet,
        memory_usage_bytes: orNull(gauges.usage),
        memory_limit_bytes: limit,
        memory_percent: workingSet === null || ceiling === null ? null : (100 * workingSet) / ceiling,
        network_receive_bytes_per_second: orNull(ebpf ? rates.ebpfReceive : rates.receive),
        network_transmit_bytes_per_second: orNull(ebpf ? rates.ebpfTransmit : rates.transmit),
        network_source: interfaces ? "interfaces" : ebpf ? "ebpf" : null,
        disk_read_bytes_per_second: orNull(rates.read),
        disk_write_bytes_per_second: orNull(rates.write),
        pressure_cpu_percent: orNull(rates.pressureCpu),
        pressure_memory_percent: orNull(rates.pressureMemory),
        pressure_io_percent: orNull(rates.pressureIo),
        threads: orNull(slow.threads),
        threads_max: slow.threadsMax > 0 ? slow.threadsMax : null,
    };
}
