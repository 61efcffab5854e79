"use strict";
// One row of the table: the cells of a container, and what has changed since the last poll.

const HISTORY_LENGTH = 60;
/** Number of polls in a row near the CPU limit after which a container is marked. */
const BUSY_POLLS = 3;
/** Number of rows that are drawn before it is known which are in view. */
const FIRST_ROWS = 60;

const THRESHOLDS = {
    memoryPercent: [80, 95],
    hostMemoryPercent: [85, 95],
    throttledPercent: [5, 25],
    pressurePercent: [10, 40],
};

/** Returns "", "warning" or "critical". */
function severity(value, [warning, critical]) {
    if (value === null) return "";
    return value >= critical ? "critical" : value >= warning ? "warning" : "";
}

const MARKS = { warning: "▲ ", critical: "■ ", "": "" };

/** Returns the highest pressure and its kind. */
function pressure(numbers) {
    const kinds = [
        ["cpu", numbers.pressure_cpu_percent],
        ["mem", numbers.pressure_memory_percent],
        ["io", numbers.pressure_io_percent],
    ].filter(([, value]) => value !== null);
    if (kinds.length === 0) return { kind: "", value: null };
    const [kind, value] = kinds.reduce((most, next) => (next[1] > most[1] ? next : most));
    return { kind, value };
}

/** Returns the text of a container's state. That of a running container with a health check is its health. */
function stateText(numbers) {
    if (!isContainer(numbers.id)) return "cgroup";
    if (numbers.state === null) return numbers.name === null ? "unnamed" : MISSING;
    if (numbers.state === "running" && numbers.health === "failing")
        return `failing (${numbers.health_failing_streak})`;
    if (numbers.state === "running" && numbers.health === "starting") return "starting";
    if (numbers.state === "exited" && numbers.oom_killed === true) return "OOM killed";
    if (numbers.state === "exited" && numbers.exit_code !== null) return `exited (${numbers.exit_code})`;
    return numbers.state;
}

function displayName(numbers) {
    return numbers.name !== null
        ? safe(numbers.name)
        : numbers.id.length === 64
          ? numbers.id.slice(0, 12)
          : safe(numbers.cgroup);
}

/** The columns. Rows are sorted by `value`, or by the smoothed rate that `smooth` names. */
const COLUMNS = [
    { key: "state", title: "State", text: true, value: (view) => view.stateOrder() },
    { key: "name", title: "Name", text: true, value: ({ numbers }) => displayName(numbers).toLowerCase() },
    { key: "cpu", title: "CPU %", value: ({ numbers }) => numbers.cpu_percent, smooth: "cpu" },
    { key: "mem", title: "Memory", value: ({ numbers }) => numbers.memory_working_set_bytes },
    { key: "pct", title: "Mem. %", value: ({ numbers }) => numbers.memory_percent },
    { key: "in", title: "In/s", value: ({ numbers }) => numbers.network_receive_bytes_per_second, smooth: "receive" },
    {
        key: "out",
        title: "Out/s",
        value: ({ numbers }) => numbers.network_transmit_bytes_per_second,
        smooth: "transmit",
    },
    { key: "read", title: "Read/s", value: ({ numbers }) => numbers.disk_read_bytes_per_second, smooth: "read" },
    { key: "write", title: "Write/s", value: ({ numbers }) => numbers.disk_write_bytes_per_second, smooth: "write" },
    { key: "psi", title: "Pressure", value: ({ numbers }) => pressure(numbers).value },
    { key: "restarts", title: "Restarts", value: ({ numbers }) => numbers.restarts },
    { key: "up", title: "Up", value: (view) => view.age },
    { key: "threads", title: "Threads", value: ({ numbers }) => numbers.threads, wide: true },
    { key: "layer", title: "Layer", value: ({ row }) => row.slow.layer ?? null, wide: true },
    {
        key: "image",
        title: "Image",
        text: true,
        value: ({ numbers }) => (numbers.image ?? "").toLowerCase(),
        wide: true,
    },
];

/** The row of one container. */
class RowView {
    constructor(row, table) {
        this.row = row;
        this.numbers = null;
        this.age = null;
        this.inView = table.views.size < FIRST_ROWS;
        this.dirty = true;
        this.drawnAt = -Infinity;
        this.busyPolls = 0;
        this.hurts = false;
        this.restartsBefore = null;
        this.healthBefore = undefined;
        this.change = "";
        this.cpu = new History(HISTORY_LENGTH);
        this.cells = {};
        this.element = element("tr", { role: "row" });
        for (const { key, wide } of COLUMNS) {
            const head = key === "name";
            const cell = element(head ? "th" : "td", {
                class: wide ? `${key} wide` : key,
                role: head ? "rowheader" : "cell",
            });
            if (head) cell.setAttribute("scope", "row");
            this.cells[key] = cell;
            this.element.append(cell);
        }
        this.link = element("a", { dir: "auto", tabindex: "-1" });
        this.cells.name.append(this.link);
        this.cpuText = element("span");
        this.spark = new Sparkline();
        this.cells.cpu.append(this.cpuText, this.spark.element);
        this.percentText = element("span");
        this.bar = new Bar();
        this.cells.pct.append(this.bar.element, this.percentText);
    }

    /** Takes the numbers of a poll. Returns a sentence about what has changed since the poll before, or null. */
    take(host, time, wallClock) {
        this.numbers = numbers(this.row, host);
        const { start_time: start, cpu_percent: cpu } = this.numbers;
        const since = isStopped(this.numbers.state) ? (this.row.gauges.finishTime ?? null) : start;
        this.age = since === null || wallClock === null ? null : Math.max(0, wallClock - since);
        this.cpu.push(time, cpu);
        const ceiling = this.ceiling(host);
        this.busyPolls = cpu !== null && ceiling !== null && cpu >= 90 * ceiling ? this.busyPolls + 1 : 0;
        this.dirty = true;
        const sentence = this.#changes();
        this.hurts = this.#hurts();
        return sentence;
    }

    /** Returns whether the row has a mark. */
    #hurts() {
        const { numbers: values } = this;
        const levels = [
            values.memory_limit_bytes === null ? "" : severity(values.memory_percent, THRESHOLDS.memoryPercent),
            severity(values.cpu_throttled_percent, THRESHOLDS.throttledPercent),
            severity(pressure(values).value, THRESHOLDS.pressurePercent),
            this.stateLevel(),
        ];
        return this.busyPolls >= BUSY_POLLS || levels.some((level) => level !== "");
    }

    /** Returns the sort key of the state: bad states first, stopped containers last. */
    stateOrder() {
        const rank = { critical: 0, warning: 1, "": this.hurts ? 2 : 3 }[this.stateLevel()];
        return `${isStopped(this.numbers.state) && rank === 3 ? 4 : rank} ${stateText(this.numbers)}`;
    }

    /** Returns how bad the state is, or the change since the page was opened. */
    stateLevel() {
        const state = stateText(this.numbers);
        if (state.startsWith("failing") || state === "OOM killed") return "critical";
        return state === "restarting" ? "warning" : this.change;
    }

    /** Returns the cores that the container may use. */
    ceiling(host) {
        return this.numbers.cpu_limit_cores ?? host.slow.cores ?? null;
    }

    #changes() {
        const name = displayName(this.numbers);
        const { restarts, health: healthNow } = this.numbers;
        let sentence = null;
        if (this.restartsBefore !== null && restarts > this.restartsBefore) {
            this.change = "warning";
            sentence = `${name} has restarted`;
        }
        if (this.healthBefore !== undefined && this.healthBefore !== "failing" && healthNow === "failing") {
            this.change = "critical";
            sentence = `${name} is failing`;
        }
        if (this.row.rates.oomKills > 0) {
            this.change = "critical";
            sentence = `a process of ${name} was killed for lack of memory`;
        }
        this.restartsBefore = restarts;
        this.healthBefore = healthNow;
        return sentence;
    }

    /** Writes the numbers into the cells. */
    draw(options, host, now) {
        this.dirty = false;
        this.drawnAt = now;
        const { numbers: values, cells } = this;
        const state = stateText(values);
        const bad = this.stateLevel();
        setText(cells.state, MARKS[bad] + state);
        setSeverity(cells.state, bad);
        this.element.classList.toggle("stopped", isStopped(values.state));
        setText(this.link, displayName(values));
        this.link.href = `#${options.fragment({ c: values.id })}`;
        this.link.title = safe(`${values.name ?? "no name"}\n${values.cgroup}`);
        this.#drawCpu(options, host, now);
        setText(cells.mem, bytes(values.memory_working_set_bytes));
        this.#drawMemory(host);
        const via = values.network_source === "ebpf" ? " IP" : "";
        const reason = this.#networkReason();
        setText(cells.in, byteRate(values.network_receive_bytes_per_second, options.bits) + via, reason);
        setText(cells.out, byteRate(values.network_transmit_bytes_per_second, options.bits) + via, reason);
        setText(cells.read, byteRate(values.disk_read_bytes_per_second, false));
        setText(cells.write, byteRate(values.disk_write_bytes_per_second, false));
        const { kind, value } = pressure(values);
        const level = severity(value, THRESHOLDS.pressurePercent);
        setText(
            cells.psi,
            value === null ? MISSING : `${MARKS[level]}${kind} ${value.toFixed(0)}`,
            value === null ? "needs ten seconds, or the kernel has no pressure" : "",
        );
        setSeverity(cells.psi, level);
        setText(cells.restarts, values.restarts === null ? MISSING : String(values.restarts));
        setText(cells.up, duration(this.age));
        const most = values.threads_max === null ? "" : ` of ${values.threads_max}`;
        setText(cells.threads, values.threads === null ? MISSING : `${values.threads}${most}`);
        setText(cells.layer, bytes(this.row.slow.layer ?? null));
        setText(
            cells.image,
            values.image === null ? MISSING : safe(values.image),
            values.image === null ? "" : safe(values.image),
        );
    }

    #drawCpu(options, host, now) {
        const { cpu_percent: cpu, cpu_throttled_percent: throttled, cpu_limit_cores: limit } = this.numbers;
        const cores =
            options.percent === "core" ? 1 : options.percent === "host" ? host.slow.cores : this.ceiling(host);
        const level = severity(throttled, THRESHOLDS.throttledPercent) || (this.busyPolls >= BUSY_POLLS ? "warning" : "");
        const shown = cpu === null || !(cores > 0) ? null : cpu / cores;
        const share =
            throttled !== null && throttled >= THRESHOLDS.throttledPercent[0] ? ` thr. ${throttled.toFixed(0)}` : "";
        setText(this.cpuText, MARKS[level] + percentText(shown) + share);
        setSeverity(this.cells.cpu, level);
        const periods = throttled === null ? "" : `, throttled in ${throttled.toFixed(0)} % of the periods`;
        this.cells.cpu.title = limit === null ? "no CPU limit" : `limit ${digits(limit)} cores${periods}`;
        this.spark.draw(this.cpu.points, now, 10);
    }

    #drawMemory(host) {
        const {
            memory_percent: share,
            memory_working_set_bytes: used,
            memory_usage_bytes: usage,
            memory_limit_bytes: limit,
        } = this.numbers;
        const ceiling = limit ?? host.slow.memory ?? null;
        const level = limit === null ? "" : severity(share, THRESHOLDS.memoryPercent);
        setText(
            this.percentText,
            share === null
                ? MISSING
                : `${MARKS[level]}${share.toFixed(share < 10 ? 1 : 0)}${limit === null ? " *" : ""}`,
        );
        setSeverity(this.cells.pct, level);
        this.cells.pct.title = limit === null ? "* of the host's memory: no limit" : `of ${bytes(limit)}`;
        this.bar.draw(
            used === null || ceiling === null ? null : used / ceiling,
            usage === null || ceiling === null ? null : usage / ceiling,
        );
    }

    #networkReason() {
        const mode = this.row.info?.network_mode ?? "";
        if (this.numbers.network_source === "ebpf")
            return `network "${safe(mode)}": bytes of IP packets, counted by eBPF`;
        if (this.numbers.network_receive_bytes_per_second !== null) return "";
        if (mode === "host") return "uses the host's network: no interface of its own";
        if (mode.startsWith("container:")) return "shares the network of another container";
        return mode === "none" ? "no network" : "";
    }
}

function setText(cell, text, title) {
    if (cell.textContent !== text) cell.textContent = text;
    if (title !== undefined && cell.title !== title) cell.title = title;
}

function setSeverity(cell, level) {
    cell.classList.toggle("warning", level === "warning");
    cell.classList.toggle("critical", level === "critical");
}

/** Returns the sum of the known values; null if none is known. */
function total(values) {
    const known = values.filter((value) => value !== null);
    return known.length === 0 ? null : known.reduce((a, b) => a + b, 0);
}
