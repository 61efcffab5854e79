//! A proxy in front of a real engine that ends its event streams in the middle, as those with a time limit do.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

/// The proxy. Threads that serve open connections end with the test process.
pub struct CuttingProxy {
    directory: TempDir,
    cuts: Arc<AtomicUsize>,
}

impl CuttingProxy {
    /// Listens before `engine`, and cuts every event stream after this time.
    ///
    /// # Errors
    /// No socket.
    pub fn start(engine: &Path, after: Duration) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let listener = UnixListener::bind(directory.path().join("docker.sock"))?;
        let cuts = Arc::new(AtomicUsize::new(0));
        let (engine, counted): (PathBuf, _) = (engine.to_owned(), Arc::clone(&cuts));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (engine, cuts) = (engine.clone(), Arc::clone(&counted));
                // A side that goes away in the middle is its own business.
                thread::spawn(move || serve(client, &engine, after, &cuts).unwrap_or_default());
            }
        });
        Ok(Self { directory, cuts })
    }

    /// For `--docker.url`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("unix://{}", self.directory.path().join("docker.sock").display())
    }

    /// Event streams that were cut so far.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

fn serve(mut client: UnixStream, engine: &Path, after: Duration, cuts: &AtomicUsize) -> io::Result<()> {
    let mut server = UnixStream::connect(engine)?;
    let mut head = [0; 4096];
    let size = client.read(&mut head)?;
    let head = head.get(..size).unwrap_or_default();
    server.write_all(head)?;
    let is_events = String::from_utf8_lossy(head).split(' ').nth(1).is_some_and(|target| target.contains("/events"));
    let (mut from, mut to) = (server.try_clone()?, client.try_clone()?);
    if is_events {
        let (client, server) = (client.try_clone()?, server.try_clone()?);
        thread::spawn(move || io::copy(&mut from, &mut to));
        thread::sleep(after);
        cuts.fetch_add(1, Ordering::SeqCst);
        client.shutdown(Shutdown::Both)?;
        return server.shutdown(Shutdown::Both);
    }
    thread::spawn(move || {
        let copied = io::copy(&mut client, &mut server);
        drop(server.shutdown(Shutdown::Both));
        copied
    });
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Both)
}
