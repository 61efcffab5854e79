//! The listen addresses: can they be had?

use std::io;
use std::net::TcpListener;

use super::report::Line;
use crate::config::ListenAddress;
use crate::probe;

/// Tries to listen, and lets go at once.
pub(super) fn check(address: &ListenAddress) -> Line {
    let what = format!("listen address {address}");
    let error = match bind(address) {
        Ok(()) => return Line::ok(what, "free"),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse if probe::healthy(address, None).is_ok() => {
            Line::ok(what, "in use by a server whose /healthz answers: the exporter runs already")
        }
        io::ErrorKind::AddrInUse => {
            Line::fail(what, "in use", "end what holds it (`ss -ltnp`), or take another with --web.listen-address")
        }
        io::ErrorKind::PermissionDenied => {
            Line::fail(what, "permission denied", "docker run --cap-add=NET_BIND_SERVICE, or a port above 1023")
        }
        _ => Line::fail(what, error.to_string(), "--web.listen-address with an address of this host"),
    }
}

fn bind(address: &ListenAddress) -> io::Result<()> {
    match address {
        // A host without IPv6 still has all of IPv4.
        ListenAddress::Any(port) => match TcpListener::bind(("::", *port)) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => TcpListener::bind(("0.0.0.0", *port)),
            bound => bound,
        },
        ListenAddress::Host(host, port) => TcpListener::bind((host.as_str(), *port)),
    }
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Verdict;

    fn on(listener: &TcpListener) -> ListenAddress {
        ListenAddress::Host("127.0.0.1".to_owned(), listener.local_addr().unwrap().port())
    }

    #[test]
    fn a_held_port_fails_and_a_free_one_does_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = on(&listener);
        let stranger = std::thread::spawn(move || drop(listener.accept()));
        assert_eq!(check(&address).verdict, Verdict::Fail);
        stranger.join().unwrap();
        assert_eq!(check(&address), Line::ok(format!("listen address {address}"), "free"));
    }

    #[test]
    fn a_name_that_is_not_this_host_fails() {
        // TEST-NET-1 belongs to nobody.
        let line = check(&ListenAddress::Host("192.0.2.1".to_owned(), 8081));
        assert_eq!(line.verdict, Verdict::Fail, "{line}");
        assert!(line.hint.contains("--web.listen-address"), "{line}");
    }
}
