"use strict";
// Formats values: short numbers and times, names without control characters.

const MISSING = "–";
const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const BITS = ["bit", "kbit", "Mbit", "Gbit", "Tbit"];

/** Returns three significant digits without an exponent. */
function digits(value) {
    const size = Math.abs(value);
    if (size >= 100 || value === 0) return value.toFixed(0);
    return value.toFixed(size >= 10 ? 1 : 2);
}

function scaled(value, base, units) {
    let index = 0;
    while (Math.abs(value) >= base && index < units.length - 1) {
        value /= base;
        index += 1;
    }
    return `${index === 0 ? value.toFixed(0) : digits(value)} ${units[index]}`;
}

/** Returns bytes with IEC units. */
function bytes(value) {
    return value === null ? MISSING : scaled(value, 1024, BYTES);
}

/** Returns bytes per second, or bits per second with decimal units. */
function byteRate(value, inBits) {
    if (value === null) return MISSING;
    return inBits ? scaled(8 * value, 1000, BITS) : bytes(value);
}

function percentText(value) {
    if (value === null) return MISSING;
    return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function secondsText(value) {
    if (value === null) return MISSING;
    if (value < 1e-3) return `${digits(value * 1e6)} µs`;
    return value < 1 ? `${digits(value * 1e3)} ms` : `${digits(value)} s`;
}

/** Returns a duration in its largest unit. */
function duration(seconds) {
    if (seconds === null || seconds < 0) return MISSING;
    const units = [
        [86400, "d"],
        [3600, "h"],
        [60, "min"],
    ];
    for (const [length, unit] of units) if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
    return `${Math.floor(seconds)} s`;
}

/** Replaces control and bidirectional characters, which can hide or reorder other text. */
function safe(text) {
    return text.replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, "\ufffd");
}
