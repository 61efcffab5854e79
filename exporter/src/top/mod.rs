//! `docker-stats-exporter top`: the containers of a running exporter, live in a terminal, once as text, or as JSON.
//!
//! It reads an exporter's metrics and nothing else: rates live here, never in the exposition.
//!
//! | file | what it does |
//! |---|---|
//! | `client` | asks the exporter over HTTP or HTTPS |
//! | `exposition` | reads the text format |
//! | `families` | the families that are asked for, and what each is |
//! | `model` | turns counters into rates |
//! | `numbers` | what columns and `--json` show of a container |
//! | `text` | numbers, times and hostile names as short texts |
//! | `app`, `keys` | the state of the view, and what keys do to it |
//! | `draw`, `table`, `detail` | draw the host, all containers, and one |
//! | `severity` | how bad values are marked |
//! | `terminal` | keys, signals, the end of the terminal |

mod app;
mod client;
mod detail;
mod draw;
mod exposition;
mod families;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod keys;
mod model;
mod numbers;
mod severity;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod text;

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Builder;

pub use app::Sort;
pub use client::Options as ClientOptions;

use app::App;
use client::Client;
use text::Palette;

/// Time between the two polls of `--once` where no interval is given.
const ONCE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between the two polls of `--once` where rows are sorted by pressure, which is taken over this time at least.
const PRESSURE_SPAN: Duration = Duration::from_secs(10);
/// How long an exporter in this process may take to start.
const START: Duration = Duration::from_secs(15);

/// What the flags of `top` say.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Options {
    /// The exporter.
    pub client: ClientOptions,
    /// Time between polls, if given.
    pub interval: Option<Duration>,
    /// First order of the rows.
    pub sort: Sort,
    /// Text that a container must have in its name, image, project, state or id.
    pub filter: String,
    /// Whether stopped containers are shown.
    pub all: bool,
    /// Whether the table is printed once.
    pub once: bool,
    /// Whether JSON is printed.
    pub json: bool,
    /// Whether colours are left out.
    pub no_color: bool,
    /// Whether signs are of ASCII alone.
    pub ascii: bool,
    /// Whether this process collects the metrics itself.
    pub local: bool,
}

/// Runs until it is ended, and returns the exit code: 0, or 1 where the exporter does not answer at first.
///
/// # Errors
/// Why nothing can be shown, as a sentence for stderr.
pub fn run(options: &Options) -> Result<u8, String> {
    let client = Client::new(options.client.clone())?;
    let to_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
    if options.once || options.json || !to_terminal {
        return print(options, &client);
    }
    if options.local {
        block_on(ready(&client))?;
    }
    let palette = palette(options);
    let interval = options.interval.unwrap_or(Duration::from_secs(2));
    let mut app = App::new(client.host_name(), options, interval);
    terminal::show(&mut app, client, palette)
        .map_err(|error| format!("the terminal cannot be used: {error}; --once prints text"))
}

/// Colours are left out where `NO_COLOR` is set or the terminal has none.
fn palette(options: &Options) -> Palette {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    // Without any locale, as in an image from scratch, the terminal at the other end is nearly always one of UTF-8.
    let unicode = locale.is_none_or(|locale| locale.to_lowercase().replace('-', "").contains("utf8"));
    Palette { color: !(options.no_color || set("NO_COLOR") || dumb), ascii: options.ascii || !unicode }
}

fn block_on<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(future)
}

/// Waits until the exporter in this process knows the containers: a name that comes later is a new series, which has no
/// rate before its second poll.
async fn ready(client: &Client) -> Result<(), String> {
    let end = Instant::now() + START;
    while let Err(error) = client.ready().await {
        if Instant::now() >= end {
            return Err(format!("{}: {error}", client.url()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Prints the table once, JSON once, or JSON per interval until the reader is gone.
fn print(options: &Options, client: &Client) -> Result<u8, String> {
    let lines = options.json && !options.once && options.interval.is_some();
    let interval = options.interval.unwrap_or(match options.sort {
        Sort::Pressure => PRESSURE_SPAN,
        _ => ONCE_INTERVAL,
    });
    let mut app = App::new(client.host_name(), options, interval);
    let started = Instant::now();
    block_on(async {
        let problem = |error| format!("{}: {error}", client.url());
        if options.local {
            ready(client).await?;
        }
        let mut answer = client.ask().await.map_err(problem)?;
        loop {
            app.take(&answer, started);
            tokio::time::sleep(interval).await;
            answer = client.ask().await.map_err(problem)?;
            app.take(&answer, started);
            app.arrange(answer.arrived);
            let text = if options.json {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |now| now.as_secs_f64());
                let json = numbers::json(&app.model, &client.url(), now, &app.host_name);
                format!("{}\n", text::safe_json(&json.to_string()))
            } else {
                table::plain(&app)
            };
            // A reader that has gone away is the end, not a failure.
            if io::stdout().lock().write_all(text.as_bytes()).is_err() || !lines {
                return Ok(0);
            }
        }
    })
}
