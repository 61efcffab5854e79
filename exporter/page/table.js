"use strict";
// The table of containers: sorts, filters and groups the rows. Each container keeps its row, which is changed in place.

/** Time after which the rows are sorted again. */
const RESORT_SECONDS = 10;
/** Time after which a row out of view is drawn again. */
const IDLE_SECONDS = 30;
/** Maximum time of one slice of drawing in Safari, which has no idle callbacks. */
const SLICE_MILLISECONDS = 10;

/** Calls `use` in idle time, with a deadline that tells the time that is left. Returns a function that cancels the call. */
function whenIdle(use) {
    if (window.requestIdleCallback !== undefined) {
        const callback = requestIdleCallback(use);
        return () => cancelIdleCallback(callback);
    }
    const timer = setTimeout(() => {
        const end = performance.now() + SLICE_MILLISECONDS;
        use({ timeRemaining: () => end - performance.now() });
    }, 50);
    return () => clearTimeout(timer);
}

/** Name of the group of cgroups that are not containers. No project can have this name. */
const CGROUPS = "/";

/** The table. */
class Table {
    constructor(options) {
        this.options = options;
        this.views = new Map();
        this.groups = new Map();
        this.body = document.querySelector("#containers tbody");
        this.head = document.querySelector("#containers thead tr");
        this.sortedAt = 0;
        this.model = null;
        this.observer = new IntersectionObserver((entries) => this.#observe(entries), { rootMargin: "200px" });
        this.#makeHead();
        this.body.addEventListener("keydown", (event) => this.#key(event));
        this.body.addEventListener("pointerenter", () => (this.pointer = true));
        this.body.addEventListener("pointerleave", () => (this.pointer = false));
    }

    #makeHead() {
        for (const { key, title, wide } of COLUMNS) {
            const button = element("button", { type: "button" }, title);
            button.addEventListener("click", () => this.options.sortBy(key));
            const cell = element(
                "th",
                { scope: "col", role: "columnheader", class: wide ? `${key} wide` : key },
                button,
            );
            this.head.append(cell);
        }
    }

    /** Takes the rows of a poll. Returns sentences about what has changed, each with the key of its row. */
    take(model, time, wallClock) {
        this.model = model;
        const changes = [];
        const added = [];
        for (const row of model.rows.values()) {
            let view = this.views.get(row.key);
            if (view === undefined || view.row !== row) {
                view?.element.remove();
                view = new RowView(row, this);
                view.element.view = view;
                this.views.set(row.key, view);
                this.observer.observe(view.element);
                added.push(view);
            }
            const sentence = view.take(model.host, time, wallClock);
            if (sentence !== null) changes.push({ key: row.key, sentence });
        }
        for (const [key, view] of this.views) {
            if (model.rows.get(key) === view.row) continue;
            this.observer.unobserve(view.element);
            view.element.remove();
            this.views.delete(key);
        }
        this.#hideAbsentColumns();
        // The second poll gives the first rates.
        const due = added.length > 0 || model.poll === 2 || time - this.sortedAt >= RESORT_SECONDS;
        if (this.body.children.length === 0 || (due && !this.#inUse())) this.arrange(time);
        else this.body.append(...added.filter((view) => this.#matches(view)).map((view) => view.element));
        this.draw(time, false);
        return changes;
    }

    /** Returns whether the user points at the table, selects in it or has the focus in it. Then rows must not move. */
    #inUse() {
        const selection = document.getSelection();
        const selected = selection !== null && !selection.isCollapsed && this.body.contains(selection.anchorNode);
        return this.pointer || selected || this.body.contains(document.activeElement);
    }

    #hideAbsentColumns() {
        const table = this.body.parentElement;
        for (const column of COLUMNS) {
            if (column.text || this.views.size === 0) continue;
            const present = [...this.views.values()].some((view) => column.value(view) !== null);
            table.classList.toggle(`no-${column.key}`, !present && this.model.poll > 8);
        }
    }

    /** Draws the rows in view at once, and the others in idle time. */
    draw(time, all) {
        const { host } = this.model;
        const late = [];
        for (const view of this.views.values()) {
            if (view.inView || all) view.draw(this.options, host, time);
            else if (time - view.drawnAt >= IDLE_SECONDS) late.push(view);
        }
        this.#drawSums();
        this.#drawLate(late, time);
    }

    #drawLate(views, time) {
        this.cancelIdle?.();
        if (views.length === 0) return;
        this.cancelIdle = whenIdle((deadline) => {
            while (views.length > 0 && deadline.timeRemaining() > 2) {
                const view = views.pop();
                if (view.dirty) view.draw(this.options, this.model.host, time);
            }
            this.#drawLate(views, time);
        });
    }

    #observe(entries) {
        for (const { target, isIntersecting } of entries) {
            target.view.inView = isIntersecting;
            if (isIntersecting && target.view.dirty && target.view.numbers !== null) {
                target.view.draw(this.options, this.model.host, this.model.time);
            }
        }
    }

    /** Sorts, filters and groups the rows. */
    arrange(time) {
        this.sortedAt = time;
        const { sort, descending, grouped } = this.options;
        const column = COLUMNS.find(({ key }) => key === sort) ?? COLUMNS[2];
        const wanted = [...this.views.values()].filter((view) => view.numbers !== null && this.#matches(view));
        const sortValue = (view) => view.row.smooth[column.smooth] ?? column.value(view);
        const order = new Map(wanted.map((view) => [view, sortValue(view)]));
        wanted.sort(
            (a, b) =>
                compare(order.get(a), order.get(b), descending) ||
                compare(displayName(a.numbers), displayName(b.numbers), false),
        );
        for (const cell of this.head.children) cell.removeAttribute("aria-sort");
        const index = COLUMNS.indexOf(column);
        this.head.children[index].setAttribute("aria-sort", descending ? "descending" : "ascending");
        const focused = document.activeElement;
        const rows = grouped ? this.#inGroups(wanted) : wanted.map((view) => view.element);
        if (!sameChildren(this.body, rows)) this.body.replaceChildren(...rows);
        if (rows.includes(focused?.closest?.("tr"))) focused.focus({ preventScroll: true });
        this.options.shown(wanted.length, this.views.size);
        if (!this.body.querySelector('a[tabindex="0"]')) this.body.querySelector("a")?.setAttribute("tabindex", "0");
    }

    #matches({ numbers: values, hurts }) {
        const { query, states } = this.options;
        const stopped = isStopped(values.state);
        if (states === "running" && (stopped || !isContainer(values.id))) return false;
        if (states === "stopped" && !stopped) return false;
        if (states === "unwell" && !hurts) return false;
        if (query === "") return true;
        const text = [
            displayName(values),
            values.image ?? "",
            values.project ?? "",
            values.state ?? "",
            values.id,
        ].join("\n");
        return text.toLowerCase().includes(query.toLowerCase());
    }

    #inGroups(views) {
        const byProject = new Map();
        for (const view of views) {
            const project = isContainer(view.numbers.id) ? (view.numbers.project ?? "") : CGROUPS;
            if (!byProject.has(project)) byProject.set(project, []);
            byProject.get(project).push(view);
        }
        this.groups.clear();
        const rows = [];
        for (const [project, members] of byProject) {
            const line = element("tr", { class: "group", role: "row" });
            const cells = {};
            for (const { key, wide } of COLUMNS) {
                cells[key] = element(key === "name" ? "th" : "td", {
                    class: wide ? `${key} wide` : key,
                    role: key === "name" ? "rowheader" : "cell",
                });
                line.append(cells[key]);
            }
            cells.name.textContent =
                project === "" ? "no project" : project === CGROUPS ? "cgroups, not containers" : safe(project);
            this.groups.set(project, { cells, members });
            rows.push(line, ...members.map((view) => view.element));
        }
        this.#drawSums();
        return rows;
    }

    #drawSums() {
        if (!this.options.grouped) return;
        for (const [project, { cells, members }] of this.groups) {
            setText(cells.state, `${members.length}`);
            // Cgroups contain each other, so a sum would count the same use twice.
            if (project === CGROUPS) continue;
            const sum = (key) => total(members.map((view) => view.numbers[key]));
            const cores = this.options.percent === "core" ? 1 : (this.model.host.slow.cores ?? 1);
            const cpu = sum("cpu_percent");
            setText(cells.cpu, percentText(cpu === null ? null : cpu / cores));
            setText(cells.mem, bytes(sum("memory_working_set_bytes")));
            setText(cells.in, byteRate(sum("network_receive_bytes_per_second"), this.options.bits));
            setText(cells.out, byteRate(sum("network_transmit_bytes_per_second"), this.options.bits));
            setText(cells.read, byteRate(sum("disk_read_bytes_per_second"), false));
            setText(cells.write, byteRate(sum("disk_write_bytes_per_second"), false));
            setText(cells.restarts, String(sum("restarts") ?? MISSING));
        }
    }

    /** Moves the focus between the names. The Tab key stops only once in the table. */
    #key(event) {
        const links = [...this.body.querySelectorAll("a")];
        const index = links.indexOf(document.activeElement);
        const target = {
            ArrowDown: index + 1,
            ArrowUp: index - 1,
            Home: 0,
            End: links.length - 1,
            PageDown: index + 10,
            PageUp: index - 10,
        }[event.key];
        if (index < 0 || target === undefined) return;
        event.preventDefault();
        const next = links[Math.max(0, Math.min(links.length - 1, target))];
        links[index].setAttribute("tabindex", "-1");
        next.setAttribute("tabindex", "0");
        next.focus();
    }
}

/** Compares two values. Missing values come last in both directions. */
function compare(a, b, descending) {
    if (a === b) return 0;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    return (a < b ? -1 : 1) * (descending ? -1 : 1);
}

function sameChildren(parent, rows) {
    return parent.children.length === rows.length && rows.every((row, index) => parent.children[index] === row);
}
