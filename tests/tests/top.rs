//! `top`: on a terminal, as text and as JSON, over real containers and over what a real exporter never says.

#[path = "top/ends.rs"]
mod ends;
#[path = "top/hostile.rs"]
mod hostile;
#[path = "top/screen.rs"]
mod screen;
#[path = "top/text.rs"]
mod text;

use anyhow::Result;
use exporter_tests::{Served, Terminal, exporter};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// One exposition of a container that is near its memory limit, and of its host.
fn exposition(name: &str) -> String {
    let labels = format!("id=\"/docker/{ID}\",image=\"web:1\",name=\"{name}\"");
    format!(
        "container_state{{{labels},state=\"running\"}} 1\n\
         container_memory_working_set_bytes{{{labels}}} 1006633\n\
         container_spec_memory_limit_bytes{{{labels}}} 1048576\n\
         machine_memory_bytes 8388608\nmachine_cpu_cores 2\n"
    )
}

/// Starts `top` on a terminal of 80 columns and 24 rows.
fn top(served: &Served, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Terminal> {
    let url = format!("http://{}", served.address);
    let mut all = vec!["top", "--url", &url, "--interval=1s"];
    all.extend(arguments);
    Terminal::start(&exporter::binary()?, &all, environment, (80, 24))
}

/// Starts `top` over one container, and waits for the container's row.
fn top_of_one() -> Result<(Served, Terminal)> {
    let served = Served::start(&exposition("web"))?;
    let terminal = top(&served, &[], &[])?;
    terminal.wait_for("the row", |text| text.contains("web"))?;
    Ok((served, terminal))
}
