// Feeds expositions to the page's arithmetic and prints the numbers of every container as JSON.
//
// usage: node arithmetic.mjs POLLS.json, an array of {"time": seconds, "text": exposition}
import fs from "node:fs";
import vm from "node:vm";

const source = fs.readFileSync(new URL("../../exporter/page/arithmetic.js", import.meta.url), "utf8");
const { Model, numbers } = vm.runInNewContext(`${source}; ({ Model, numbers })`);
const model = new Model();
for (const { time, text } of JSON.parse(fs.readFileSync(process.argv[2], "utf8"))) model.take(text, time, true, 2);
console.log(JSON.stringify([...model.rows.values()].map((row) => numbers(row, model.host)), null, 1));
