//! An exporter of canned answers: for what a real one never says, such as names of 64 KiB, and statuses at the right moment.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// A status and a body.
type Answer = (u16, String);

/// The server. It ends with the test process.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
}

impl Served {
    /// Listens, and answers every request with this text.
    ///
    /// # Errors
    /// No port.
    pub fn start(text: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let served = Self { address: listener.local_addr()?, answer: Arc::new(Mutex::new((200, text.to_owned()))) };
        let answer = Arc::clone(&served.answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A client that goes away in the middle is its own business.
                thread::spawn(move || reply(&stream, &answer).unwrap_or_default());
            }
        });
        Ok(served)
    }

    /// Answers so from now on.
    pub fn answer(&self, status: u16, text: &str) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = (status, text.to_owned());
    }
}

fn reply(mut stream: &TcpStream, (status, text): &Answer) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let head = format!("HTTP/1.1 {status} .\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(text.as_bytes())
}
