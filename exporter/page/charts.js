"use strict";
// Draws sparklines and charts as SVG. A null in a series is a gap in the line.

const SVG = "http://www.w3.org/2000/svg";

function svg(name, attributes = {}, ...children) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
}

function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
}

/** Keeps the newest points of a series. */
class History {
    constructor(length) {
        this.length = length;
        this.points = [];
    }

    push(time, value) {
        this.points.push({ time, value });
        if (this.points.length > this.length) this.points.shift();
    }
}

/** Returns path data for the points, in a box of the given size; a new segment begins after each gap. */
function linePath(points, from, to, top, width, height) {
    let path = "";
    let drawing = false;
    for (const { time, value } of points) {
        if (value === null || time < from) {
            drawing = false;
            continue;
        }
        const x = (width * (time - from)) / (to - from || 1);
        const y = height - (height * Math.min(value, top)) / (top || 1);
        path += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
        drawing = true;
    }
    return path;
}

/** A line of the last two minutes. */
class Sparkline {
    constructor() {
        this.path = svg("path", { class: "line first" });
        this.element = svg("svg", {
            class: "spark",
            viewBox: "0 0 60 16",
            preserveAspectRatio: "none",
            "aria-hidden": "true",
        });
        this.element.append(this.path);
    }

    draw(points, now, least) {
        const top = points.reduce((most, point) => Math.max(most, point.value ?? 0), least);
        this.path.setAttribute("d", linePath(points, now - 120, now, top, 60, 15.5));
    }
}

/** A bar with a lighter part behind the first. Both are shares of 1; null if unknown. */
class Bar {
    constructor() {
        this.second = svg("rect", { class: "cache", height: 10 });
        this.first = svg("rect", { class: "fill", height: 10 });
        this.element = svg("svg", {
            class: "bar",
            viewBox: "0 0 100 10",
            preserveAspectRatio: "none",
            "aria-hidden": "true",
        });
        this.element.append(this.second, this.first);
    }

    draw(first, second) {
        const width = (share) => String(Math.max(0, Math.min(100, 100 * (share ?? 0))));
        this.first.setAttribute("width", width(first));
        this.second.setAttribute("width", width(second));
    }
}

const CHART = { width: 600, height: 140, left: 64, bottom: 18 };
/** Time spans of a chart in seconds. The shortest that contains all points is used. */
const SPANS = [60, 120, 300, 600];

/** Returns a round number that is at least the value; for bytes, a round number of KiB, MiB or GiB. */
function roundUp(value, binary) {
    if (!(value > 0)) return 1;
    if (binary && value >= 1024) {
        const unit = 1024 ** Math.floor(Math.log2(value) / 10);
        return unit * roundUp(value / unit, false);
    }
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}

/** A chart of several series over up to ten minutes, with axes, a summary in words, and the points as a table. */
class Chart {
    /** @param {object} options `title`, `unit` (number to text), `series` (each `key`, `label`), `stacked`, `binary` (bytes) */
    constructor(options) {
        this.options = options;
        this.histories = new Map(options.series.map(({ key }) => [key, new History(300)]));
        this.limits = [];
        this.plot = svg("svg", { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", class: "chart" });
        this.summary = element("p", { class: "quiet summary" });
        this.reason = element("p", { class: "quiet" }, "not collected here, or not for this container");
        this.table = element("details", {}, element("summary", {}, "as table"));
        this.table.addEventListener("toggle", () => this.#fillTable());
        const heading = element("h3", {}, options.title);
        this.element = element("figure", {}, heading, this.#legend(), this.plot, this.reason, this.summary, this.table);
    }

    push(time, values, limits = []) {
        for (const [key, history] of this.histories) history.push(time, values[key] ?? null);
        this.limits = limits.filter((limit) => limit.value !== null && limit.value !== undefined);
        this.#draw(time);
    }

    #legend() {
        const names = this.options.series.map(({ label }, index) =>
            element(
                "span",
                { class: "key" },
                svg(
                    "svg",
                    { class: "swatch", viewBox: "0 0 16 4" },
                    svg("path", { d: "M0 2H16", class: `line ${LINES[index]}` }),
                ),
                label,
            ),
        );
        return element("p", { class: "legend quiet" }, ...names);
    }

    /** Returns the points of each series. In a stack, each series stands on those before it. */
    #lines() {
        const lines = [];
        let below = null;
        for (const { key } of this.options.series) {
            const points = this.histories.get(key).points;
            if (!this.options.stacked) {
                lines.push(points);
                continue;
            }
            const sums = points.map(({ time, value }, index) => {
                const base = below === null ? 0 : (below[index].value ?? 0);
                return { time, value: value === null ? null : base + value };
            });
            below = sums.map((point, index) => ({
                time: point.time,
                value: point.value ?? below?.[index].value ?? null,
            }));
            lines.push(sums);
        }
        return lines;
    }

    #draw(now) {
        const lines = this.#lines();
        const values = lines.flat().flatMap(({ value }) => (value === null ? [] : [value]));
        this.reason.hidden = values.length > 0;
        this.plot.classList.toggle("empty", values.length === 0);
        this.element.classList.toggle("nothing", values.length === 0);
        const most = values.reduce((a, b) => Math.max(a, b), 0);
        // A limit far above the values would make them flat, so that only the summary shows it.
        const near = this.limits.filter((limit) => limit.value <= 4 * most);
        const top = roundUp(
            near.reduce((a, limit) => Math.max(a, limit.value), most),
            this.options.binary,
        );
        const width = CHART.width - CHART.left;
        const height = CHART.height - CHART.bottom - 6;
        const first = lines.flat().reduce((least, { time }) => Math.min(least, time), now);
        const span = SPANS.find((seconds) => seconds >= now - first) ?? SPANS.at(-1);
        const from = now - span;
        const inner = svg("g", { transform: `translate(${CHART.left} 6)` });
        for (const share of [0, 0.5, 1]) {
            const y = height * (1 - share);
            inner.append(svg("path", { class: "grid", d: `M0 ${y}H${width}` }));
            inner.append(svg("text", { x: -6, y: y + 4, "text-anchor": "end" }, this.options.unit(top * share)));
        }
        for (const [share, anchor] of [
            [0, "start"],
            [0.5, "middle"],
            [1, "end"],
        ]) {
            const text = share === 1 ? "now" : `−${duration(span * (1 - share))}`;
            inner.append(svg("text", { x: width * share, y: height + 15, "text-anchor": anchor }, text));
        }
        for (const limit of near) {
            const y = height * (1 - limit.value / top);
            inner.append(svg("path", { class: "limit", d: `M0 ${y}H${width}` }));
        }
        lines.forEach((points, index) => {
            inner.append(
                svg("path", { class: `line ${LINES[index]}`, d: linePath(points, from, now, top, width, height) }),
            );
        });
        this.plot.replaceChildren(inner);
        this.summary.textContent = this.#summary();
        this.plot.setAttribute("aria-label", `${this.options.title}: ${this.summary.textContent}`);
        if (this.table.open) this.#fillTable();
    }

    #summary() {
        const { unit, series } = this.options;
        const texts = series.flatMap(({ key, label }) => {
            const points = this.histories.get(key).points;
            const values = points.flatMap(({ value }) => (value === null ? [] : [value]));
            if (values.length === 0) return [];
            const now = points.at(-1).value;
            const least = values.reduce((a, b) => Math.min(a, b));
            const most = values.reduce((a, b) => Math.max(a, b));
            return [`${label}: now ${now === null ? MISSING : unit(now)}, least ${unit(least)}, most ${unit(most)}`];
        });
        return [...texts, ...this.limits.map(({ label, value }) => `${label} ${unit(value)}`)].join("; ");
    }

    #fillTable() {
        this.table.querySelector("table")?.remove();
        if (!this.table.open) return;
        const { title, unit, series } = this.options;
        const head = element("tr", {}, element("th", { scope: "col" }, "seconds ago"));
        for (const { label } of series) head.append(element("th", { scope: "col" }, label));
        const body = element("tbody");
        const columns = series.map(({ key }) => this.histories.get(key).points);
        const newest = columns[0]?.at(-1)?.time ?? 0;
        for (let index = columns[0]?.length - 1; index >= 0; index -= 1) {
            const line = element("tr", {}, element("td", {}, (newest - columns[0][index].time).toFixed(0)));
            for (const points of columns) {
                const value = points[index].value;
                line.append(element("td", {}, value === null ? MISSING : unit(value)));
            }
            body.append(line);
        }
        this.table.append(element("table", {}, element("caption", {}, title), element("thead", {}, head), body));
    }
}

const LINES = ["first", "second", "third", "fourth"];
