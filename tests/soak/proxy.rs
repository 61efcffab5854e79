//! A proxy in front of the engine that cuts connections: some after a number of bytes, some after a time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use tempfile::TempDir;

use exporter_tests::random::Random;

/// How often a connection is checked on which nothing comes.
const INTERVAL: Duration = Duration::from_millis(200);

/// The proxy. Its socket goes with the value; its threads end with their connections.
pub(crate) struct Proxy {
    socket: PathBuf,
    _directory: TempDir,
}

/// When a connection is cut.
#[derive(Clone, Copy)]
struct Cut {
    bytes: usize,
    after: Duration,
}

impl Cut {
    fn next(random: &mut Random) -> Self {
        let never = Self { bytes: usize::MAX, after: Duration::from_hours(24) };
        match random.below(4) {
            0 => Self { bytes: random.below(20_000), ..never },
            1 => Self { after: Duration::from_millis(random.below(5000) as u64), ..never },
            _ => never,
        }
    }
}

impl Proxy {
    pub(crate) fn start(engine: PathBuf) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket)?;
        thread::spawn(move || {
            let mut random = Random::new(3);
            for client in listener.incoming().flatten() {
                let (engine, cut) = (engine.clone(), Cut::next(&mut random));
                // Both ends may go away at any time.
                thread::spawn(move || pass(&client, &engine, cut).unwrap_or_default());
            }
        });
        Ok(Self { socket, _directory: directory })
    }

    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

/// Passes both directions on until one of them ends, or the connection is cut.
fn pass(client: &UnixStream, engine: &Path, cut: Cut) -> Result<()> {
    let engine = UnixStream::connect(engine)?;
    let (mut questions, mut to_engine) = (client.try_clone()?, engine.try_clone()?);
    thread::spawn(move || {
        // A question that is not read to its end is the other direction's business.
        std::io::copy(&mut questions, &mut to_engine).unwrap_or_default();
        to_engine.shutdown(Shutdown::Write).unwrap_or_default();
    });
    let outcome = answers(&engine, client, cut);
    client.shutdown(Shutdown::Both).unwrap_or_default();
    engine.shutdown(Shutdown::Both).unwrap_or_default();
    outcome
}

fn answers(mut engine: &UnixStream, mut client: &UnixStream, cut: Cut) -> Result<()> {
    engine.set_read_timeout(Some(INTERVAL))?;
    let (began, mut left, mut room) = (Instant::now(), cut.bytes, [0; 4096]);
    while began.elapsed() < cut.after && left > 0 {
        let length = match engine.read(&mut room) {
            Ok(0) => break,
            Ok(length) => length.min(left),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error.into()),
        };
        client.write_all(room.get(..length).unwrap_or_default())?;
        left -= length;
    }
    Ok(())
}
