//! Clients that are slow, idle or impatient: 200 at a time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::{Builder, Scope};
use std::time::Duration;

use anyhow::Result;
use exporter_tests::http;

use crate::Soak;

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: soak\r\n\r\n";
/// Between two bytes of a slow client.
const SLOW: Duration = Duration::from_millis(300);
/// Between two visits of a client.
const PAUSE: Duration = Duration::from_secs(1);
const STACK: usize = 256 << 10;

/// One visit of a client.
type Visit = fn(&Soak, SocketAddr) -> Result<()>;

const CLIENTS: [(usize, Visit); 6] =
    [(60, idle), (40, dribbles), (30, never_reads), (30, reads_slowly), (20, is_impatient), (20, hangs_up)];

/// Starts all of them; they come again until the soak is over.
pub(crate) fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, soak: &'scope Soak, address: SocketAddr) {
    let mut delay = Duration::ZERO;
    for (count, visit) in CLIENTS {
        for _ in 0..count {
            // Not all at once.
            delay += PAUSE / 20;
            let visits = move || {
                soak.rest(delay);
                while !soak.is_over() {
                    // Whoever behaves like this may be refused or cut.
                    visit(soak, address).unwrap_or_default();
                    soak.rest(PAUSE);
                }
            };
            let spawned = Builder::new().stack_size(STACK).spawn_scoped(scope, visits);
            soak.report.note("a client", spawned.map(drop).map_err(Into::into));
        }
    }
}

fn idle(soak: &Soak, address: SocketAddr) -> Result<()> {
    let _stream = http::connect(address)?;
    soak.rest(20 * PAUSE);
    Ok(())
}

/// Says a request of many headers, one byte at a time.
fn dribbles(soak: &Soak, address: SocketAddr) -> Result<()> {
    let mut stream = http::connect(address)?;
    let start = b"GET /metrics HTTP/1.1\r\nHost: soak\r\n";
    for byte in start.iter().chain(b"X-More: 1\r\n".iter().cycle()) {
        stream.write_all(&[*byte])?;
        soak.rest(SLOW);
        if soak.is_over() {
            break;
        }
    }
    Ok(())
}

/// Asks many times and takes no answer.
fn never_reads(soak: &Soak, address: SocketAddr) -> Result<()> {
    let mut stream = http::connect(address)?;
    stream.set_write_timeout(Some(PAUSE))?;
    let asked = stream.write_all(&REQUEST.repeat(50));
    soak.rest(20 * PAUSE);
    Ok(asked?)
}

/// Takes an answer one byte at a time.
fn reads_slowly(soak: &Soak, address: SocketAddr) -> Result<()> {
    let mut stream = http::connect(address)?;
    stream.write_all(REQUEST)?;
    for _ in 0..100 {
        if soak.is_over() || read(&mut stream)? == 0 {
            break;
        }
        soak.rest(SLOW);
    }
    Ok(())
}

fn read(stream: &mut TcpStream) -> Result<usize> {
    Ok(stream.read(&mut [0])?)
}

/// Gives the exporter no time at all.
fn is_impatient(_: &Soak, address: SocketAddr) -> Result<()> {
    http::get(address, "/metrics", &[("X-Prometheus-Scrape-Timeout-Seconds", "0.00001")]).map(drop)
}

/// Asks and goes away.
fn hangs_up(_: &Soak, address: SocketAddr) -> Result<()> {
    Ok(http::connect(address)?.write_all(REQUEST)?)
}
