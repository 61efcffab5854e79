//! `--once`, `--json` and `--local`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use exporter_tests::exporter::free_address;
use exporter_tests::judges::judge_json;
use exporter_tests::{Container, Engine, Exporter, exporter};
use serde_json::Value;

fn top(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(exporter::binary()?).arg("top").args(arguments).stdin(Stdio::null()).output()?)
}

#[test]
fn one_process_that_collects_by_itself_knows_names_and_rates_at_once() -> Result<()> {
    let engine = Engine::shared()?;
    let container = Container::run(engine, "local", &["--cpus=0.1"], &["sh", "-c", "while :; do :; done"])?;
    let docker = format!("--docker.url={}", engine.host());
    let output = top(&["--local", "--json", &docker])?;
    ensure!(output.status.success(), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout)?;
    let containers = json["containers"].as_array().context("containers")?;
    let row = containers.iter().find(|row| row["name"] == container.name.as_str()).context("no such name")?;
    judge_json(&output.stdout)?;
    ensure!(row["cpu_percent"].is_number() && row["cpu_limit_cores"] == 0.1 && row["state"] == "running", "{row}");
    Ok(())
}

#[test]
fn once_prints_whole_names_without_escape_codes() -> Result<()> {
    let engine = Engine::shared()?;
    let container = Container::sleeping(engine, "once-with-a-name-that-no-narrow-column-holds", &[])?;
    let exporter = Exporter::with(engine)?;
    let output = top(&["--url", &format!("http://{}", exporter.address), "--filter", &container.name])?;
    let text = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && !text.contains('\x1b'), "{text}");
    ensure!(text.lines().count() == 2 && text.contains(&container.name), "{text}");
    exporter.stop()?;
    Ok(())
}

#[test]
fn every_line_of_json_follows_the_published_schema() -> Result<()> {
    let engine = Engine::shared()?;
    let limits = [
        "--memory=64m",
        "--pids-limit=50",
        "--health-cmd=true",
        "--health-interval=1s",
        "--label=com.docker.compose.project=p",
    ];
    let _limited = Container::sleeping(engine, "json-limited", &limits)?;
    let ended = Container::run(engine, "json-ended", &[], &["sh", "-c", "exit 3"])?;
    let exporter = Exporter::builder().docker(engine).flag("--cgroups.include=/docker").start()?;
    let url = format!("http://{}", exporter.address);
    let mut top = Command::new(exporter::binary()?)
        .args(["top", "--json", "--interval=1s", "--url", &url])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let lines =
        BufReader::new(top.stdout.take().context("no stdout")?).lines().take(3).collect::<Result<Vec<_>, _>>()?;
    ensure!(top.wait()?.success(), "a closed pipe is a quiet end");
    judge_json(lines.join("\n").as_bytes())?;
    ensure!(lines.iter().any(|line| line.contains(&ended.name)), "{lines:?}");
    exporter.stop()?;
    Ok(())
}

#[test]
fn an_exporter_that_does_not_answer_is_named_with_a_cure() -> Result<()> {
    let address = free_address()?;
    let output = top(&["--once", "--url", &format!("http://{address}")])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{said}");
    ensure!(said.contains(&address.to_string()) && said.contains("is the exporter running there?"), "{said}");
    Ok(())
}
