"use strict";
// The view of one container: facts, charts of up to ten minutes, and events since the view was opened.

const DETAIL_FAMILIES = [
    "container_cpu_user_seconds_total",
    "container_cpu_system_seconds_total",
    "container_cpu_cfs_periods_total",
    "container_cpu_cfs_throttled_periods_total",
    "container_memory_rss",
    "container_memory_cache",
    "container_memory_kernel_usage",
    "container_memory_swap",
    "container_memory_working_set_bytes",
    "container_memory_failcnt",
    "container_pids_max_events_total",
    "container_network_receive_bytes_total",
    "container_network_transmit_bytes_total",
    "container_network_receive_errors_total",
    "container_network_transmit_errors_total",
    "container_network_receive_packets_dropped_total",
    "container_network_transmit_packets_dropped_total",
    "container_ebpf_network_receive_bytes_total",
    "container_ebpf_network_transmit_bytes_total",
    "container_tcp_retransmits_total",
    "container_fs_reads_bytes_total",
    "container_fs_writes_bytes_total",
    "container_fs_reads_total",
    "container_fs_writes_total",
    "container_pressure_cpu_waiting_seconds_total",
    "container_pressure_cpu_stalled_seconds_total",
    "container_pressure_memory_waiting_seconds_total",
    "container_pressure_memory_stalled_seconds_total",
    "container_pressure_io_waiting_seconds_total",
    "container_pressure_io_stalled_seconds_total",
    "container_blkio_latency_seconds",
    "container_start_time_seconds",
];

/** Counters whose increase is listed as an event, with the sentence of the event. */
const EVENTS = new Map(
    Object.entries({
        container_memory_failcnt: "usage hit the memory limit",
        container_pids_max_events_total: "a fork was refused: the task limit is reached",
        container_tcp_retransmits_total: "TCP segments were sent again",
    }),
);

const PRESSURE_KINDS = ["cpu", "memory", "io"];

/** Returns the samples of one container by family, each with its labels. */
function samplesByFamily(text, key) {
    const families = new Map();
    eachSample(text, (family, labelText, value) => {
        const labels = parseLabels(labelText);
        if (rowKey(labels.id ?? "") !== key) return;
        if (!families.has(family)) families.set(family, []);
        families.get(family).push({ labelText, labels, value });
    });
    return families;
}

/** Returns a quantile of the increases of a classic histogram; null if nothing was counted. */
function quantile(q, buckets) {
    const sorted = [...buckets].sort((a, b) => a.bound - b.bound);
    const total = sorted.at(-1)?.count ?? 0;
    if (!(total > 0)) return null;
    const rank = q * total;
    const index = sorted.findIndex((bucket) => bucket.count >= rank);
    const { bound, count } = sorted[index];
    if (!Number.isFinite(bound)) return sorted[index - 1]?.bound ?? null;
    const lower = index === 0 ? { bound: 0, count: 0 } : sorted[index - 1];
    if (count === lower.count) return bound;
    return lower.bound + ((bound - lower.bound) * (rank - lower.count)) / (count - lower.count);
}

/** Turns the answers about one container into rates. */
class DetailReader {
    constructor(key) {
        this.key = key;
        this.before = null;
    }

    /** Takes an answer. Returns functions for a family's increase, rate and gauge; null across a restart or a gap. */
    take(text, time, pace) {
        const families = samplesByFamily(text, this.key);
        const start = families.get("container_start_time_seconds")?.[0]?.value;
        const before = this.before;
        this.before = { families, time, start };
        const elapsed = before === null ? 0 : time - before.time;
        const usable = elapsed > 0 && elapsed <= GAP_INTERVALS * pace && before.start === start;
        const increase = (family, wanted = () => true) => {
            const now = (families.get(family) ?? []).filter(({ labels }) => wanted(labels));
            if (!usable || now.length === 0) return null;
            const old = new Map((before.families.get(family) ?? []).map(({ labelText, value }) => [labelText, value]));
            const known = now.filter(({ labelText }) => old.has(labelText));
            if (known.length === 0 || known.some(({ labelText, value }) => value < old.get(labelText))) return null;
            return known.reduce((sum, { labelText, value }) => sum + value - old.get(labelText), 0);
        };
        const rate = (family, wanted) => {
            const value = increase(family, wanted);
            return value === null ? null : value / elapsed;
        };
        const gauge = (family) => families.get(family)?.[0]?.value ?? null;
        return { increase, rate, gauge, families };
    }
}

class Detail {
    constructor(options) {
        this.options = options;
        this.section = document.querySelector("#detail");
        this.id = null;
    }

    /** Opens the view of a container. */
    open(view) {
        this.id = view.numbers.id;
        this.view = view;
        this.reader = new DetailReader(this.id);
        this.events = element("ol", { class: "events" });
        this.noEvents = element("p", { class: "quiet" }, "none");
        const scaledPercent = (value) => `${percentText(value)} %`;
        const rateText = (value) => `${byteRate(value, this.options.bits)}/s`;
        this.charts = {
            cpu: new Chart({
                title: "CPU (100 % = one core)",
                unit: scaledPercent,
                stacked: true,
                series: [
                    { key: "user", label: "user" },
                    { key: "system", label: "system" },
                ],
            }),
            throttled: new Chart({
                title: "Throttled share of CFS periods",
                unit: scaledPercent,
                series: [{ key: "share", label: "throttled" }],
            }),
            memory: new Chart({
                title: "Memory",
                unit: bytes,
                binary: true,
                stacked: true,
                series: [
                    { key: "rss", label: "anonymous" },
                    { key: "cache", label: "page cache" },
                    { key: "kernel", label: "kernel" },
                    { key: "swap", label: "swap" },
                ],
            }),
            network: new Chart({
                title: "Network",
                unit: rateText,
                binary: true,
                series: [
                    { key: "in", label: "in" },
                    { key: "out", label: "out" },
                ],
            }),
            problems: new Chart({
                title: "Network drops and errors",
                unit: (value) => `${digits(value)}/s`,
                series: [
                    { key: "drops", label: "dropped" },
                    { key: "errors", label: "errors" },
                ],
            }),
            disk: new Chart({
                title: "Disk",
                unit: (value) => `${bytes(value)}/s`,
                binary: true,
                series: [
                    { key: "read", label: "read" },
                    { key: "write", label: "written" },
                ],
            }),
            operations: new Chart({
                title: "Disk operations",
                unit: (value) => `${digits(value)}/s`,
                series: [
                    { key: "read", label: "read" },
                    { key: "write", label: "written" },
                ],
            }),
            waiting: new Chart({
                title: "Pressure: some task waits",
                unit: scaledPercent,
                series: PRESSURE_KINDS.map((kind) => ({ key: kind, label: kind })),
            }),
            stalled: new Chart({
                title: "Pressure: all tasks wait",
                unit: scaledPercent,
                series: PRESSURE_KINDS.map((kind) => ({ key: kind, label: kind })),
            }),
            latency: new Chart({
                title: "Block I/O latency",
                unit: secondsText,
                series: [
                    { key: "p50", label: "p50" },
                    { key: "p99", label: "p99" },
                ],
            }),
        };
        this.heading = element("h2", { tabindex: "-1", dir: "auto" });
        this.facts = element("dl");
        this.state = element("p");
        const close = element("button", { type: "button" }, "Back to the table (Esc)");
        close.addEventListener("click", () => this.options.close());
        this.section.replaceChildren(
            close,
            this.heading,
            this.state,
            this.facts,
            element("div", { class: "charts" }, ...Object.values(this.charts).map((chart) => chart.element)),
            element("h3", {}, "Events since this view was opened"),
            this.noEvents,
            this.events,
        );
        this.section.hidden = false;
        this.drawFacts();
        this.heading.focus();
    }

    close() {
        this.id = null;
        this.section.hidden = true;
        this.section.replaceChildren();
    }

    /** Adds a line to the list of events. */
    event(sentence) {
        this.noEvents.hidden = true;
        const time = new Date();
        this.events.prepend(
            element(
                "li",
                {},
                element("time", { datetime: time.toISOString() }, time.toLocaleTimeString()),
                ` ${sentence}`,
            ),
        );
        while (this.events.children.length > 200) this.events.lastChild.remove();
    }

    drawFacts() {
        const { numbers: values, row, age } = this.view;
        setText(this.heading, displayName(values));
        const parts = [
            stateText(values),
            age === null ? "" : `for ${duration(age)}`,
            values.restarts > 0 ? `${values.restarts} restarts` : "",
        ];
        setText(this.state, parts.filter((part) => part !== "").join(", "));
        const date = (seconds) =>
            seconds === undefined || seconds === null ? MISSING : new Date(1000 * seconds).toLocaleString();
        const facts = [
            ["Image", values.image ?? MISSING],
            ["Project", values.project ?? MISSING],
            ["Id", values.id],
            ["Cgroup", values.cgroup],
            ["Network", row.info?.network_mode ?? MISSING],
            ["Restart policy", row.info?.restart_policy ?? MISSING],
            ["CPU limit", values.cpu_limit_cores === null ? "none" : `${digits(values.cpu_limit_cores)} cores`],
            ["Memory limit", values.memory_limit_bytes === null ? "none" : bytes(values.memory_limit_bytes)],
            ["Tasks", values.threads === null ? MISSING : `${values.threads} ${values.threads_max === null ? "(no limit)" : `of ${values.threads_max}`}`],
            ["Started", date(values.start_time)],
            ["Last end", date(row.gauges.finishTime)],
            ["Last exit code", values.exit_code === null ? MISSING : String(values.exit_code)],
        ];
        const children = facts.flatMap(([term, text]) => [
            element("dt", {}, term),
            element("dd", { dir: "auto" }, safe(text)),
        ]);
        this.facts.replaceChildren(...children);
    }

    /** Takes an answer about the open container. */
    take(text, time, pace, host) {
        const { increase, rate, gauge, families } = this.reader.take(text, time, pace);
        const { charts } = this;
        const cores = this.view.ceiling(host);
        const percentOf = (value) => (value === null ? null : 100 * value);
        charts.cpu.push(
            time,
            {
                user: percentOf(rate("container_cpu_user_seconds_total")),
                system: percentOf(rate("container_cpu_system_seconds_total")),
            },
            [
                {
                    label: this.view.numbers.cpu_limit_cores === null ? "all cores" : "limit",
                    value: cores === null ? null : 100 * cores,
                },
            ],
        );
        const periods = increase("container_cpu_cfs_periods_total");
        const throttled = increase("container_cpu_cfs_throttled_periods_total");
        charts.throttled.push(time, { share: periods > 0 && throttled !== null ? (100 * throttled) / periods : null });
        charts.memory.push(
            time,
            {
                rss: gauge("container_memory_rss"),
                cache: gauge("container_memory_cache"),
                kernel: gauge("container_memory_kernel_usage"),
                swap: gauge("container_memory_swap"),
            },
            [
                { label: "working set", value: gauge("container_memory_working_set_bytes") },
                { label: "limit", value: this.view.numbers.memory_limit_bytes },
            ],
        );
        const either = (family) => rate(`container_network_${family}`) ?? rate(`container_ebpf_network_${family}`);
        charts.network.push(time, { in: either("receive_bytes_total"), out: either("transmit_bytes_total") });
        charts.problems.push(time, {
            drops: total([
                rate("container_network_receive_packets_dropped_total"),
                rate("container_network_transmit_packets_dropped_total"),
            ]),
            errors: total([
                rate("container_network_receive_errors_total"),
                rate("container_network_transmit_errors_total"),
            ]),
        });
        charts.disk.push(time, {
            read: rate("container_fs_reads_bytes_total"),
            write: rate("container_fs_writes_bytes_total"),
        });
        charts.operations.push(time, {
            read: rate("container_fs_reads_total"),
            write: rate("container_fs_writes_total"),
        });
        for (const kind of ["waiting", "stalled"]) {
            const values = PRESSURE_KINDS.map((name) => [
                name,
                percentOf(rate(`container_pressure_${name}_${kind}_seconds_total`)),
            ]);
            charts[kind].push(time, Object.fromEntries(values));
        }
        const latency = this.#latency(families, increase);
        charts.latency.push(time, { p50: quantile(0.5, latency), p99: quantile(0.99, latency) });
        for (const [family, sentence] of EVENTS) {
            const count = increase(family);
            if (count > 0) this.event(`${sentence} (${digits(count)} times)`);
        }
        this.drawFacts();
    }

    /** Returns the increases of the latency histogram's buckets, summed over all operations. */
    #latency(families, increase) {
        const bounds = new Set(
            (families.get("container_blkio_latency_seconds_bucket") ?? []).map(({ labels }) => labels.le),
        );
        return [...bounds].map((le) => ({
            bound: le === "+Inf" ? Infinity : Number(le),
            count: increase("container_blkio_latency_seconds_bucket", (labels) => labels.le === le) ?? 0,
        }));
    }
}
