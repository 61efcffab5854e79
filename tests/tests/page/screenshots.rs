//! The pictures of the documentation: a host with a hundred containers of which some hurt.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exporter_tests::{Engine, Exporter, Terminal, exporter};
use vt100::{Color, Screen};

use super::drive;

const PROJECTS: [&str; 12] =
    ["shop", "billing", "search", "mail", "metrics", "wiki", "git", "chat", "video", "maps", "auth", "feed"];
const SERVICES: [&str; 8] = ["web", "api", "db", "cache", "worker", "queue", "proxy", "cron"];
/// Works for a moment every second.
const LIGHT: &str = "while :; do i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; sleep 1; done";
/// Those that hurt: name, options, command.
const HURT: [(&str, &[&str], &str); 5] = [
    ("shop-checkout-1", &["--cpus=0.05"], "while :; do :; done"),
    ("billing-invoices-1", &["--memory=40m"], "dd if=/dev/zero of=/dev/shm/file bs=1M count=37; sleep 1d"),
    ("mail-relay-1", &["--restart=always"], "sleep 3; exit 1"),
    ("auth-login-1", &["--health-cmd=false", "--health-interval=2s", "--health-retries=1"], "sleep 1d"),
    ("feed-import-1", &["--memory=24m", "--memory-swap=24m"], "sleep 5; tail /dev/zero"),
];

/// Runs a container with a name of a compose project.
fn run(engine: &Engine, name: &str, options: &[&str], command: &str) -> Result<()> {
    let project = name.split('-').next().unwrap_or_default();
    let label = format!("com.docker.compose.project={project}");
    let mut arguments = vec!["run", "--detach", "--name", name, "--network=none", "--label", &label];
    arguments.extend(options);
    arguments.extend([engine.image(), "sh", "-c", command]);
    engine.docker(&arguments).map(drop)
}

/// Draws a terminal's screen as SVG.
fn svg(screen: &Screen) -> String {
    let (rows, columns) = screen.size();
    let (width, height) = (9 * u32::from(columns.get()) + 20, 19 * u32::from(rows.get()) + 20);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" \
         font-size=\"15\"><rect width=\"{width}\" height=\"{height}\" fill=\"#14171c\"/>\n"
    );
    for (row, column) in (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column))) {
        let Some(cell) = screen.cell(row, column).filter(|cell| cell.has_contents() || cell.inverse()) else {
            continue;
        };
        let colour = match cell.fgcolor() {
            Color::Idx(1) => "#ff8a80",
            Color::Idx(3) => "#f0c000",
            _ => "#e6e8eb",
        };
        let (x, y) = (9 * u32::from(column) + 10, 19 * u32::from(row) + 10);
        let mut ink = colour;
        if cell.inverse() {
            // Writing to a String cannot fail.
            _ = writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"9.5\" height=\"19\" fill=\"{colour}\"/>");
            ink = "#14171c";
        }
        let text = cell.contents().replace('&', "&amp;").replace('<', "&lt;");
        let weight = if cell.bold() { " font-weight=\"bold\"" } else { "" };
        if !text.trim().is_empty() {
            _ = writeln!(svg, "<text x=\"{x}\" y=\"{}\" fill=\"{ink}\"{weight}>{text}</text>", y + 15);
        }
    }
    svg + "</svg>\n"
}

#[test]
#[ignore = "makes the pictures of docs/images anew"]
fn screenshots_of_a_host_with_a_hundred_containers() -> Result<()> {
    let engine = Engine::private()?;
    let plain: Vec<String> =
        PROJECTS.iter().flat_map(|project| SERVICES.map(|service| format!("{project}-{service}-1"))).collect();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(name) = plain.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let busy = name.starts_with("search") || name.starts_with("video");
                    let command = if busy { LIGHT } else { "sleep 1d" };
                    run(&engine, name, &[], command).unwrap();
                }
            });
        }
    });
    for (name, options, command) in HURT {
        run(&engine, name, options, command)?;
    }
    // Without those of other engines.
    let exporter = Exporter::builder().docker(&engine).flag("--containers.include=*-1").start()?;
    let url = format!("http://{}/", exporter.address);
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images");
    fs::create_dir_all(&folder)?;
    let arguments = ["top", "--url", &url, "--interval=2s"];
    let terminal = Terminal::start(&exporter::binary()?, &arguments, &[], (100, 28))?;
    drive("screenshots.mjs", &[&url, &folder.display().to_string(), HURT[0].0])?;
    terminal.wait_for("the throttled container", |text| text.contains(HURT[0].0))?;
    thread::sleep(Duration::from_secs(2));
    fs::write(folder.join("top.svg"), svg(&terminal.screen()))?;
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        ensure!(entry.metadata()?.len() < 150_000, "{} is too large", entry.path().display());
    }
    exporter.stop()?;
    let all = engine.docker(&["ps", "--all", "--quiet"])?;
    engine.docker(&[&["rm", "--force"], &all.lines().collect::<Vec<_>>()[..]].concat()).context("rm")?;
    Ok(())
}
