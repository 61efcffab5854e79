//! The live page in a real browser: Chromium, driven by playwright over real containers, and the page's arithmetic in Node.

#[path = "page/browser.rs"]
mod browser;
#[path = "page/screenshots.rs"]
mod screenshots;
#[path = "page/stats.rs"]
mod stats;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

const BROWSER: &str = "apt-get install chromium nodejs npm";

/// The scripts that drive the browser.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("page")
}

/// Runs a program and returns what it printed.
fn run(command: &mut Command, hint: &str) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?} does not start: {hint}"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    Ok(text)
}

/// Runs a script that drives a browser, and returns what it printed.
fn drive(script: &str, arguments: &[&str]) -> Result<String> {
    // One browser at a time: each takes what the machine has. It installs what the scripts need, too.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let install = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--prefer-offline"];
    run(Command::new("npm").current_dir(scripts()).args(install), BROWSER)?;
    run(Command::new("node").current_dir(scripts()).arg(script).args(arguments), BROWSER)
}

/// Feeds polls, each a time and an exposition, to the page's arithmetic.
fn numbers(polls: &[(f64, &str)]) -> Result<Value> {
    let file = tempfile::NamedTempFile::new()?;
    let polls: Vec<_> = polls.iter().map(|(time, text)| json!({"time": time, "text": text})).collect();
    fs::write(file.path(), serde_json::to_vec(&json!({"pace": 2, "polls": polls}))?)?;
    arithmetic(file.path())
}

/// The numbers that the page computes of a file of polls.
fn arithmetic(polls: &Path) -> Result<Value> {
    let mut node = Command::new("node");
    node.current_dir(scripts()).arg("arithmetic.mjs").arg(polls);
    Ok(serde_json::from_str(&run(&mut node, "apt-get install nodejs")?)?)
}

/// The same file is read by the arithmetic of `top`, with the same numbers.
#[test]
fn captured_polls_give_the_numbers_of_top() -> Result<()> {
    let expected = fs::read_to_string(scripts().join("numbers.json"))?;
    assert_eq!(arithmetic(&scripts().join("polls.json"))?, serde_json::from_str::<Value>(&expected)?);
    Ok(())
}

const ID: &str = "/docker/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// One exposition of a container and its host.
fn exposition(start: u64, cpu: f64, throttled: u64, receive: u64) -> String {
    let labels = format!(r#"id="{ID}",image="web:1",name="a\"b\\c",container_label_com_docker_compose_project="shop""#);
    format!(
        "# TYPE container_cpu_usage_seconds_total counter\n\
         container_cpu_usage_seconds_total{{cpu=\"total\",{labels}}} {cpu}\n\
         container_cpu_cfs_periods_total{{{labels}}} {}\n\
         container_cpu_cfs_throttled_periods_total{{{labels}}} {throttled}\n\
         container_network_receive_bytes_total{{interface=\"eth0\",{labels}}} {receive}\n\
         container_memory_working_set_bytes{{{labels}}} 1048576\n\
         container_spec_memory_limit_bytes{{{labels}}} 4194304\n\
         container_start_time_seconds{{{labels}}} {start}\n\
         container_state{{state=\"running\",{labels}}} 1\n\
         container_pressure_io_waiting_seconds_total{{{labels}}} NaN\n\
         machine_memory_bytes 8388608\n",
        2 * throttled
    )
}

#[test]
fn a_container_in_a_container_is_not_added_to_it() -> Result<()> {
    let outer = exposition(100, 10.0, 5, 1000);
    let inner = outer.replace(ID, &format!("{ID}/docker/{}", "f".repeat(64)));
    let rows = numbers(&[(1000.0, &format!("{outer}{inner}"))])?;
    let ids: Vec<&Value> = rows.as_array().context("rows")?.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, [ID.trim_start_matches("/docker/"), &"f".repeat(64)]);
    Ok(())
}

#[test]
fn rates_come_from_two_polls_and_nothing_is_invented() -> Result<()> {
    let (first, second) = (exposition(100, 10.0, 5, 1000), exposition(100, 10.5, 6, 3000));
    let once = numbers(&[(1000.0, &first)])?;
    assert_eq!(once[0]["cpu_percent"], Value::Null, "one poll has no rate");
    assert_eq!(once[0]["memory_percent"], json!(25));
    assert_eq!((&once[0]["name"], &once[0]["project"]), (&json!("a\"b\\c"), &json!("shop")));
    let twice = numbers(&[(1000.0, &first), (1002.0, &second)])?;
    assert_eq!(twice[0]["cpu_percent"], json!(25));
    assert_eq!(twice[0]["cpu_throttled_percent"], json!(50));
    assert_eq!(twice[0]["network_receive_bytes_per_second"], json!(1000));
    assert_eq!(twice[0]["network_source"], json!("interfaces"));
    for absent in
        ["network_transmit_bytes_per_second", "disk_read_bytes_per_second", "pressure_io_percent", "exit_code"]
    {
        assert_eq!(twice[0][absent], Value::Null, "{absent} is not in the exposition");
    }
    Ok(())
}

#[test]
fn a_restart_a_lost_poll_and_a_cached_answer_are_no_rates() -> Result<()> {
    let first = exposition(100, 10.0, 5, 1000);
    let restarted = numbers(&[(1000.0, &first), (1002.0, &exposition(200, 11.0, 6, 2000))])?;
    assert_eq!(restarted[0]["cpu_percent"], Value::Null, "another run");
    let fallen = numbers(&[(1000.0, &first), (1002.0, &exposition(100, 9.0, 6, 2000))])?;
    assert_eq!(fallen[0]["network_receive_bytes_per_second"], Value::Null, "one counter fell: a gap for the container");
    let late = numbers(&[(1000.0, &first), (1060.0, &exposition(100, 11.0, 6, 2000))])?;
    assert_eq!(late[0]["cpu_percent"], Value::Null, "polls were lost");
    let second = exposition(100, 11.0, 6, 2000);
    let cached = numbers(&[(1000.0, &first), (1002.0, &second), (1004.0, &second)])?;
    assert_eq!(cached[0]["cpu_percent"], json!(50), "the same collection again keeps the rates");
    Ok(())
}
