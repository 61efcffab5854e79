//! The price of a container at different numbers of them, as a picture: `docs/overhead.svg`.

use std::fmt::Write as _;

use super::figures::float;
use super::measure::Run;
use super::tiers::{Row, Tier};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 180.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;

/// A line of the picture: its name, its colour, and the nanoseconds of a run.
struct Line {
    name: &'static str,
    color: &'static str,
    of: fn(&Run) -> f64,
}

/// Of the scrapes of one way of reading; nothing where this host does not have it.
fn tier(run: &Run, tier: Tier, of: fn(&Row) -> f64) -> f64 {
    run.tiers.rows.iter().find(|row| row.tier == tier).map_or(f64::NAN, of)
}

const LINES: &[Line] = &[
    Line { name: "files opened anew", color: "#d62728", of: |run| tier(run, Tier::Anew, |row| row.warm.cpu.median) },
    Line { name: "files kept open", color: "#ff7f0e", of: |run| tier(run, Tier::Kept, |row| row.warm.cpu.median) },
    Line { name: "loop of reads", color: "#7f7f7f", of: |run| run.tiers.floor.median },
    Line { name: "snapshots", color: "#1f77b4", of: |run| tier(run, Tier::Snapshot, |row| row.warm.cpu.median) },
];

/// The picture of all runs.
pub(super) fn svg(runs: &[Run]) -> String {
    let each = |line: &Line, run: &Run| (line.of)(run) / 1e3 / float(run.containers as u64);
    let highest = LINES.iter().flat_map(|line| runs.iter().map(|run| each(line, run))).fold(1.0, f64::max);
    let sizes: Vec<f64> = runs.iter().map(|run| float(run.containers as u64).log10()).collect();
    let (first, last) = (sizes.first().copied().unwrap_or(0.0), sizes.last().copied().unwrap_or(1.0));
    let x = |size: f64| LEFT + (size - first) / (last - first).max(0.1) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - value / highest * (HEIGHT - TOP - BOTTOM);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    text(&mut svg, LEFT, 20.0, "CPU time of a scrape per container (µs), by number of containers");
    for value in [0.0, highest / 2.0, highest] {
        let level = y(value);
        _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {level:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" \
             text-anchor=\"end\">{value:.0}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            level + 4.0
        );
    }
    for (run, size) in runs.iter().zip(&sizes) {
        text(&mut svg, x(*size) - 12.0, HEIGHT - BOTTOM + 20.0, &run.containers.to_string());
    }
    for line in LINES {
        let points: Vec<(f64, f64)> = runs
            .iter()
            .zip(&sizes)
            .map(|(run, size)| (x(*size), y(each(line, run))))
            .filter(|(_, y)| y.is_finite())
            .collect();
        draw(&mut svg, line, &points);
    }
    svg + "</svg>\n"
}

fn draw(svg: &mut String, line: &Line, points: &[(f64, f64)]) {
    let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let Line { name, color, .. } = line;
    _ = writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>", path.join(" "));
    for (x, y) in points {
        _ = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>");
    }
    if let Some((x, y)) = points.last() {
        text(svg, x + 10.0, y + 4.0, name);
    }
}

fn text(svg: &mut String, x: f64, y: f64, words: &str) {
    _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
}
