//! Listen addresses → listening sockets. An error names every address that cannot be used, with a hint.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::limits::BACKLOG;
use super::systemd::SystemdError;
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
    /// Returns whether an address is invalid on this host, and not only unavailable at the moment.
    #[must_use]
    pub fn is_config_error(&self) -> bool {
        match self {
            // Errors of the system have a number; those of the resolver have none.
            Self::Refused(refusals) => refusals.iter().any(|refusal| refusal.reason.raw_os_error().is_none()),
            Self::NoAddress | Self::Systemd(_) => true,
        }
    }
}

/// One address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}: {}", hint(reason))]
pub struct AddressError {
    /// The address as given, and what it resolved to if that differs.
    pub address: String,
    /// The system's error.
    pub reason: io::Error,
}

/// Listens on every address, or on none.
///
/// `:PORT` takes IPv6 and IPv4, and IPv4 alone where this host has no IPv6. A name is listened on at every address it
/// resolves to that this host has. The sockets do not block.
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

/// Listens on every address of a host, except those that this machine lacks (`localhost` often names `::1` where IPv6
/// is off) as long as one is left.
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
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
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
    // A restarted exporter must not wait until the kernel forgets the old one's connections.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Overrides net.ipv6.bindv6only: a wildcard means every address of this host.
        sockopt::set_ipv6_v6only(&socket, false)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

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
}
