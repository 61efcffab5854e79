//! Opens the listening sockets: those of `--web.listen-address`, or those that systemd passes (`sd_listen_fds(3)`).
//!
//! An error names every address that cannot be used, with a hint.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::limits::BACKLOG;
use super::socket::Listener;
use crate::config::ListenAddress;

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Some addresses cannot be used.
    #[error("{}", .0.iter().map(AddressError::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<AddressError>),
    /// There is no address to listen on.
    #[error("no address to listen on: give at least one --web.listen-address, such as :8081")]
    NoAddress,
    /// systemd passed no sockets.
    #[error(transparent)]
    Systemd(#[from] SystemdError),
}

impl BindError {
    /// Returns whether the configuration is wrong. Otherwise an address is only unavailable at the moment.
    #[must_use]
    pub fn is_config_error(&self) -> bool {
        match self {
            // Errors of the resolver have no number.
            Self::Refused(refusals) => refusals.iter().any(|refusal| refusal.reason.raw_os_error().is_none()),
            Self::NoAddress | Self::Systemd(_) => true,
        }
    }
}

/// One address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}: {}", hint(reason))]
pub struct AddressError {
    /// The given address, with the resolved one if that differs.
    pub address: String,
    /// The system's error.
    pub reason: io::Error,
}

/// Listens on every address, or on none.
///
/// `:PORT` listens on IPv6 and IPv4, and on IPv4 alone if this host has no IPv6. A name listens on each of its addresses that
/// this host has. The sockets do not block.
///
/// # Errors
/// All addresses that cannot be used, each with the system's reason and a hint.
pub fn bind(addresses: &[ListenAddress]) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    let mut refused = Vec::new();
    for address in addresses {
        match bind_one(address) {
            Ok(sockets) => listeners.extend(sockets),
            Err(refusals) => refused.extend(refusals),
        }
    }
    if !refused.is_empty() {
        return Err(BindError::Refused(refused));
    }
    if listeners.is_empty() {
        return Err(BindError::NoAddress);
    }
    Ok(listeners)
}

fn bind_one(address: &ListenAddress) -> Result<Vec<TcpListener>, Vec<AddressError>> {
    match address {
        ListenAddress::Any(port) => match listen_anywhere(*port) {
            Ok(listener) => Ok(vec![listener]),
            Err(reason) => Err(vec![AddressError { address: format!(":{port}"), reason }]),
        },
        ListenAddress::Host(host, port) => bind_host(host, *port),
    }
}

fn listen_anywhere(port: u16) -> io::Result<TcpListener> {
    match listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))) {
        Err(error) if not_on_this_host(&error) => {
            tracing::debug!(%error, port, "no IPv6 on this host; listening on IPv4 alone");
            listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
        }
        outcome => outcome,
    }
}

/// Listens on every address of a name. An address that this host does not have is left out if another one is left:
/// `localhost` often resolves to `::1` where IPv6 is off.
fn bind_host(host: &str, port: u16) -> Result<Vec<TcpListener>, Vec<AddressError>> {
    let found = resolve(host, port).map_err(|reason| vec![AddressError { address: with_port(host, port), reason }])?;
    let (mut listeners, mut missing, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for address in found {
        match listen(address) {
            Ok(listener) => listeners.push(listener),
            Err(reason) => {
                let list = if not_on_this_host(&reason) { &mut missing } else { &mut refused };
                list.push(AddressError { address: describe(host, address), reason });
            }
        }
    }
    if listeners.is_empty() {
        refused.append(&mut missing);
    }
    if refused.is_empty() { Ok(listeners) } else { Err(refused) }
}

/// Returns the addresses of a host name, or of an address with or without brackets.
fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let mut found = Vec::new();
    for address in (bare, port).to_socket_addrs()? {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restarted exporter can listen while the kernel still keeps connections of the old one.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // The wildcard listens on IPv4, too, whatever net.ipv6.bindv6only says.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Returns whether this host does not have the address or its protocol.
fn not_on_this_host(error: &io::Error) -> bool {
    [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn describe(host: &str, address: SocketAddr) -> String {
    let given = with_port(host, address.port());
    let resolved = address.to_string();
    if given == resolved { given } else { format!("{given} ({resolved})") }
}

fn hint(error: &io::Error) -> impl fmt::Display {
    match error.kind() {
        ErrorKind::AddrInUse => {
            "another program, or another --web.listen-address, has that port (`ss -ltnp` names it); \
             stop it, or choose another --web.listen-address"
        }
        ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability NET_BIND_SERVICE; add it, or choose a higher port"
        }
        ErrorKind::AddrNotAvailable => {
            "this host (or this container's network) has no such address; `:PORT` listens on every address there is"
        }
        _ if not_on_this_host(error) => "IPv6 is off on this host; choose an IPv4 address",
        _ => "check --web.listen-address: `:PORT`, `HOST:PORT` or `[IPV6]:PORT`",
    }
}

/// Why the sockets of systemd cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--web.systemd-socket: {0}; start the program by a .socket unit, or leave the flag out")]
pub struct SystemdError(String);

/// The sockets that systemd has passed, not yet registered with the runtime.
#[derive(Debug)]
pub struct SystemdSockets(Vec<Passed>);

#[derive(Debug)]
enum Passed {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl SystemdSockets {
    /// Takes the sockets. Must be called before any thread is started, as it changes the environment.
    ///
    /// # Errors
    /// There is no socket, the sockets are for another process, or one is not a listening stream socket.
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
                tokio::net::TcpListener::from_std(socket).map(Listener::Tcp)
            }
            Passed::Unix(socket) => {
                socket.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(socket).map(Listener::Unix)
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
    // A child program that inherits the socket would continue to listen.
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

    fn host(name: &str, port: u16) -> ListenAddress {
        ListenAddress::Host(name.to_owned(), port)
    }

    #[test]
    fn a_port_alone_is_reached_over_both_protocols() {
        let listeners = bind(&[ListenAddress::Any(0)]).expect("a free port");
        let port = listeners[0].local_addr().expect("bound").port();
        std::net::TcpStream::connect(("127.0.0.1", port)).expect("IPv4");
        if listeners[0].local_addr().expect("bound").is_ipv6() {
            std::net::TcpStream::connect(("::1", port)).expect("IPv6");
        }
    }

    #[test]
    fn a_name_is_listened_on_at_each_of_its_addresses() {
        let listeners = bind(&[host("localhost", 0)]).expect("loopback");
        assert!(listeners.iter().all(|listener| listener.local_addr().expect("bound").ip().is_loopback()));
    }

    #[test]
    fn an_address_in_brackets_is_the_address() {
        assert_eq!(resolve("[::1]", 80).expect("an address"), resolve("::1", 80).expect("an address"));
    }

    #[test]
    fn every_address_that_cannot_be_had_is_named_with_its_reason_and_hint() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        let wanted = [host("127.0.0.1", port), host("192.0.2.77", 8081), host("no-such-host.invalid", 8081)];
        let message = bind(&wanted).expect_err("none can be had").to_string();
        assert!(message.contains(&format!("cannot listen on 127.0.0.1:{port}: Address already in use")), "{message}");
        assert!(message.contains("`ss -ltnp` names it"), "{message}");
        assert!(message.contains("cannot listen on 192.0.2.77:8081: Cannot assign requested address"), "{message}");
        assert!(message.contains("cannot listen on no-such-host.invalid:8081: "), "{message}");
        assert_eq!(message.matches("cannot listen on").count(), 3, "{message}");
    }

    #[test]
    fn a_taken_port_keeps_the_good_addresses_unused_too() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = taken.local_addr().expect("bound").port();
        assert!(bind(&[host("127.0.0.1", 0), host("127.0.0.1", port)]).is_err());
    }

    #[test]
    fn no_address_at_all_is_a_mistake() {
        assert!(matches!(bind(&[]), Err(BindError::NoAddress)));
    }

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
