//! Sockets that systemd passes (`sd_listen_fds(3)`). Called by `app` before any thread is started, as the environment is
//! changed.

use std::io;
use std::net::TcpListener as StdTcpListener;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener as StdUnixListener;

use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::sockopt;
use tokio::net::{TcpListener, UnixListener};

use super::listener::Listener;

/// Why systemd's sockets cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--web.systemd-socket: {0}; start the program by a .socket unit, or leave the flag out")]
pub struct SystemdError(String);

/// The sockets that systemd passed, before the runtime knows them.
#[derive(Debug)]
pub struct SystemdSockets(Vec<Passed>);

#[derive(Debug)]
enum Passed {
    Tcp(StdTcpListener),
    Unix(StdUnixListener),
}

impl SystemdSockets {
    /// Takes the sockets.
    ///
    /// # Errors
    /// There is no socket, they are for another process, or one is not a listening stream socket.
    pub fn take() -> Result<Self, SystemdError> {
        let variable = |name| std::env::var(name).ok();
        let announced = announced(variable("LISTEN_PID"), variable("LISTEN_FDS"), std::process::id())?;
        let mut descriptors = ListenFd::from_env();
        let sockets = (0..announced).map(|index| take_one(&mut descriptors, index));
        sockets.collect::<Result<_, _>>().map(Self)
    }

    /// Registers the sockets with the runtime. Must be called inside a Tokio runtime.
    ///
    /// # Errors
    /// The system's error.
    pub fn listen(self) -> io::Result<Vec<Listener>> {
        let listen = |passed| match passed {
            Passed::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                TcpListener::from_std(socket).map(Listener::Tcp)
            }
            Passed::Unix(socket) => {
                socket.set_nonblocking(true)?;
                UnixListener::from_std(socket).map(Listener::Unix)
            }
        };
        self.0.into_iter().map(listen).collect()
    }
}

/// Returns how many sockets the environment announces for this process.
fn announced(pid: Option<String>, count: Option<String>, own: u32) -> Result<usize, SystemdError> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Err(SystemdError("systemd has passed no socket (LISTEN_PID or LISTEN_FDS is not set)".to_owned()));
    };
    if pid.parse() != Ok(own) {
        return Err(SystemdError(format!("the sockets are meant for process {pid}, and this is {own} (LISTEN_PID)")));
    }
    match count.parse() {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err(SystemdError(format!("LISTEN_FDS is {count:?}, which is no number of sockets"))),
    }
}

fn take_one(descriptors: &mut ListenFd, index: usize) -> Result<Passed, SystemdError> {
    let wrong = |error: io::Error| SystemdError(format!("socket {index} cannot be used: {error}"));
    let taken = match descriptors.take_tcp_listener(index) {
        Ok(socket) => socket.map(Passed::Tcp),
        Err(_not_tcp) => descriptors.take_unix_listener(index).map_err(wrong)?.map(Passed::Unix),
    };
    let taken = taken.ok_or_else(|| SystemdError(format!("socket {index} is not there")))?;
    let descriptor = match &taken {
        Passed::Tcp(socket) => socket.as_fd(),
        Passed::Unix(socket) => socket.as_fd(),
    };
    // Child programs must not inherit the socket: they would continue to listen.
    fcntl_setfd(descriptor, FdFlags::CLOEXEC).map_err(|error| wrong(error.into()))?;
    if sockopt::socket_acceptconn(descriptor).map_err(|error| wrong(error.into()))? {
        Ok(taken)
    } else {
        Err(SystemdError(format!("socket {index} does not listen (the .socket unit needs Accept=no)")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_taken_only_where_systemd_means_this_process() {
        let announced = |pid: &str, count: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            announced(given(pid), given(count), 7).map_err(|error| error.to_string())
        };
        assert_eq!(announced("7", "2"), Ok(2));
        for (pid, count, expected) in [
            ("", "", "has passed no socket"),
            ("7", "", "has passed no socket"),
            ("8", "1", "meant for process 8"),
            ("7", "0", "LISTEN_FDS is \"0\""),
            ("7", "x", "LISTEN_FDS is \"x\""),
        ] {
            let error = announced(pid, count).expect_err(pid);
            assert!(error.contains(expected) && error.contains("--web.systemd-socket"), "{error}");
        }
    }
}
