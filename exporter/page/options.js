"use strict";
// The options of the view, which the fragment of the address keeps.

const byId = (id) => document.getElementById(id);

/** The options that the user has chosen. The fragment of the address keeps them over a reload and in a bookmark. */
class Options {
    constructor(page) {
        this.page = page;
        this.read();
    }

    read() {
        const fields = new URLSearchParams(location.hash.slice(1));
        const sort = fields.get("sort") ?? "-cpu";
        this.descending = sort.startsWith("-");
        this.sort = sort.replace(/^-/, "");
        this.query = fields.get("q") ?? "";
        this.percent = ["core", "limit", "host"].includes(fields.get("pct")) ? fields.get("pct") : "core";
        this.states = ["all", "running", "stopped", "unwell"].includes(fields.get("state"))
            ? fields.get("state")
            : "all";
        this.grouped = fields.get("groups") === "1";
        this.bits = fields.get("bits") === "1";
        this.pace = [1, 2, 5, 10, 30].includes(Number(fields.get("pace"))) ? Number(fields.get("pace")) : 2;
        this.container = fields.get("c");
    }

    /** Returns the fragment for the options, some of them changed. Defaults are left out. */
    fragment(changes = {}) {
        const fields = new URLSearchParams();
        const all = {
            sort: (this.descending ? "-" : "") + this.sort,
            q: this.query,
            pct: this.percent,
            state: this.states,
            groups: this.grouped ? "1" : "",
            bits: this.bits ? "1" : "",
            pace: String(this.pace),
            c: this.container ?? "",
            ...changes,
        };
        const defaults = { sort: "-cpu", pct: "core", state: "all", pace: "2" };
        for (const [key, value] of Object.entries(all))
            if (value !== "" && value !== defaults[key]) fields.set(key, value);
        return fields.toString();
    }

    write() {
        history.replaceState(null, "", `#${this.fragment()}`);
    }

    /** Sorts by a column. The first click sorts numbers in descending and texts in ascending order. */
    sortBy(key) {
        const text = COLUMNS.find((column) => column.key === key)?.text === true;
        this.descending = this.sort === key ? !this.descending : !text;
        this.sort = key;
        this.page.changed();
        this.page.say(
            `sorted by ${COLUMNS.find((column) => column.key === key).title}, ${this.descending ? "descending" : "ascending"}`,
        );
    }

    shown(count, all) {
        setText(byId("shown"), count === all ? "" : `${count} of ${all} shown`);
        setText(byId("nothing"), all === 0 ? "No container runs here." : "No container is as the filter wants it.");
        byId("nothing").hidden = count > 0;
    }

    close() {
        this.page.closeDetail();
    }
}
