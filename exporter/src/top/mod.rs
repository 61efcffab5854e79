//! `docker-stats-exporter top`: shows the containers of a running exporter live in a terminal, once as text, or as JSON.
//!
//! It reads only the metrics of an exporter, and computes rates from them.
//!
//! | file | what it does |
//! |---|---|
//! | `client` | asks the exporter over HTTP or HTTPS |
//! | `exposition` | the families that are asked for, and the parser of the text format |
//! | `model` | turns counters into rates |
//! | `numbers` | computes the numbers that the columns and `--json` show |
//! | `format` | short numbers and times, safe names, marks of bad values |
//! | `app`, `keys` | the state of the view, and what keys change in it |
//! | `draw`, `table` | draw a frame |
//! | `terminal` | the loop over keys, signals and polls |

mod app;
mod client;
mod draw;
mod exposition;
mod format;
mod keys;
mod model;
mod numbers;
mod table;
mod terminal;
#[cfg(test)]
mod tests;

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::runtime::Builder;

pub use app::Sort;
pub use client::Options as ClientOptions;
#[cfg(any(test, fuzzing))]
pub(crate) use exposition::fuzz;

use app::App;
use client::Client;
use format::Palette;

/// Time between the two polls of `--once` and `--json` if no interval is given.
const ONCE_INTERVAL: Duration = Duration::from_secs(1);
/// The same for rows sorted by pressure, which is computed over at least this time.
const PRESSURE_SPAN: Duration = Duration::from_secs(10);
/// Timeout for the start of an exporter in this process.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// The flags of `top`.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Options {
    /// How to reach the exporter.
    pub client: ClientOptions,
    /// Time between polls.
    pub interval: Option<Duration>,
    /// Order of the rows at first.
    pub sort: Sort,
    /// Text that the name, image, project, state or id of a container must contain.
    pub filter: String,
    /// Whether stopped containers are shown.
    pub all: bool,
    /// Whether the table is printed once.
    pub once: bool,
    /// Whether JSON is printed.
    pub json: bool,
    /// Whether colours are left out.
    pub no_color: bool,
    /// Whether only ASCII characters are used.
    pub ascii: bool,
    /// Whether this process collects the metrics itself.
    pub local: bool,
}

/// Runs until the user or a signal ends it. Returns the exit code.
///
/// # Errors
/// Why nothing can be shown, as a sentence for stderr. The exporter may not answer, or the terminal cannot be used.
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

/// Returns what the terminal can show, by the flags, `NO_COLOR`, `TERM` and the locale.
fn palette(options: &Options) -> Palette {
    let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()));
    // An image without a locale does not know the user's terminal, which nearly always uses UTF-8.
    let unicode = locale.is_none_or(|locale| locale.to_lowercase().replace('-', "").contains("utf8"));
    Palette { color: !(options.no_color || set("NO_COLOR") || dumb), ascii: options.ascii || !unicode }
}

fn block_on<T>(future: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(future)
}

/// Waits until the exporter in this process knows the containers. A container whose name came later would be a new series
/// without a rate.
async fn ready(client: &Client) -> Result<(), String> {
    let end = Instant::now() + START_TIMEOUT;
    while let Err(error) = client.ready().await {
        if Instant::now() >= end {
            return Err(format!("{}: {error}", client.url()));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Prints the table once, JSON once, or JSON at each interval until the reader is gone.
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
                format!("{}\n", format::safe_json(&json.to_string()))
            } else {
                table::plain(&app)
            };
            // A reader that has gone away (`| head`) is not an error.
            if io::stdout().lock().write_all(text.as_bytes()).is_err() || !lines {
                return Ok(0);
            }
        }
    })
}
