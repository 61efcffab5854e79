// Feeds expositions to the page's arithmetic and prints the numbers of every container as JSON.
//
// usage: node arithmetic.mjs POLLS.json, {"pace": seconds, "polls": [{"time": seconds, "text": exposition}]}
import fs from "node:fs";
import vm from "node:vm";

const source = fs.readFileSync(new URL("../../exporter/page/arithmetic.js", import.meta.url), "utf8");
const { Model, numbers } = vm.runInNewContext(`${source}; ({ Model, numbers })`);
const model = new Model();
const { pace, polls } = JSON.parse(fs.readFileSync(process.argv[2], "utf8"));
for (const { time, text } of polls) model.take(text, time, true, pace);
const rows = [...model.rows.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
console.log(JSON.stringify(rows.map((row) => numbers(row, model.host)), null, 1));
