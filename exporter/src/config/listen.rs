//! `--web.listen-address`: `:PORT`, `HOST:PORT`, `[::1]:PORT`.

use std::fmt;
use std::net::Ipv6Addr;

use super::ListenAddress;
use super::mistakes::Reason;

/// One address.
pub(super) fn address(text: &str) -> Result<ListenAddress, Reason> {
    let (host, port) = split_port(text)?;
    match host {
        "" => Ok(ListenAddress::Any(port)),
        _ => Ok(ListenAddress::Host(bare_host(host)?.to_owned(), port)),
    }
}

/// What stands before the last colon, and the number behind it.
fn split_port(text: &str) -> Result<(&str, u16), Reason> {
    let (host, port) = text.rsplit_once(':').ok_or(Reason::Port)?;
    // `+8081` would parse, and nobody means it.
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Reason::Port);
    }
    Ok((host, port.parse().or(Err(Reason::Port))?))
}

/// A host name or address that can stand in an address; an IPv6 address loses its brackets.
pub(super) fn bare_host(host: &str) -> Result<&str, Reason> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // A link-local address may name its interface behind a `%`.
        let address = inner.split('%').next().unwrap_or(inner);
        return address.parse::<Ipv6Addr>().map(|_| inner).or(Err(Reason::Host));
    }
    if host.contains(':') {
        return Err(Reason::BareIpv6);
    }
    let plain = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if plain { Ok(host) } else { Err(Reason::Host) }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any(port) => write!(f, ":{port}"),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}
