//! The flags that only the command `top` takes.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use hyper::Uri;

use super::error::Reason;
use super::flag::{Apply, Flag, Group, ROW, SWITCH};
use super::values;
use crate::top::Sort;

/// A row with a value.
const VALUE: Flag = Flag { group: Group::Top, ..ROW };
/// A switch.
const ON: Flag = Flag { group: Group::Top, ..SWITCH };

pub(super) const ROWS: &[Flag] = &[
    Flag {
        name: Cow::Borrowed("url"),
        variables: &["TOP_URL"],
        value: "URL",
        help: "address of a running exporter; without it that of this host's, by --web.listen-address",
        accepts: "http://HOST:PORT or https://HOST:PORT, with the path of the metrics if it is not /metrics",
        apply: Apply::Text(|partial, text| url(text).map(|url| partial.top.url = Some(url))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("interval"),
        value: "DURATION",
        default: "2s",
        help: "time between polls, at least a second; with --json one line per interval",
        accepts: "seconds (2, 10) or a number with a unit (2s, 1m), from 1s to 365d",
        apply: Apply::Text(|partial, text| match values::duration(text)? {
            interval if interval.as_secs() < 1 => Err(Reason::TooShort),
            interval => {
                partial.top.interval = Some(interval);
                Ok(())
            }
        }),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("sort"),
        value: "COLUMN",
        default: "cpu",
        help: "first order: cpu, memory, memory-percent, network, disk, pressure, restarts, uptime, name",
        accepts: "cpu, memory, memory-percent, network, disk, pressure, restarts, uptime or name",
        apply: Apply::Text(|partial, text| values::word(text, Sort::ALL).map(|sort| partial.top.sort = Some(sort))),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("filter"),
        value: "TEXT",
        help: "show only containers with this text in name, image, project, state or id",
        accepts: "any text",
        apply: Apply::Text(|partial, text| {
            text.clone_into(&mut partial.top.filter);
            Ok(())
        }),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("ca-file"),
        value: "FILE",
        help: "certificates to trust in place of the system's, for an https:// URL",
        accepts: "a file with PEM certificates",
        apply: Apply::Path(|partial, path| partial.top.ca_file = Some(path)),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("user"),
        variables: &["TOP_USER"],
        value: "NAME",
        help: "user for basic authentication; the password comes from --password-file or TOP_PASSWORD",
        accepts: "a user name",
        apply: Apply::Text(|partial, text| {
            partial.top.user = Some(text.to_owned());
            Ok(())
        }),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("password-file"),
        value: "FILE",
        help: "file with the password for basic authentication",
        accepts: "a file that can be read, with the password on its first line",
        apply: Apply::Text(|partial, text| {
            let password = fs::read_to_string(Path::new(text)).map_err(Reason::File)?;
            partial.top.password = Some(password.lines().next().unwrap_or_default().to_owned());
            Ok(())
        }),
        ..VALUE
    },
    Flag {
        variables: &["TOP_PASSWORD"],
        value: "PASSWORD",
        help: "the password itself; --password-file wins",
        accepts: "a password",
        apply: Apply::Text(|partial, text| {
            partial.top.password.get_or_insert_with(|| text.to_owned());
            Ok(())
        }),
        ..VALUE
    },
    Flag {
        name: Cow::Borrowed("all"),
        help: "show stopped containers too",
        apply: Apply::Switch(|partial, on| partial.top.all = on),
        ..ON
    },
    Flag {
        name: Cow::Borrowed("once"),
        help: "print the table once and exit; so does output that is no terminal",
        apply: Apply::Switch(|partial, on| partial.top.once = on),
        ..ON
    },
    Flag {
        name: Cow::Borrowed("json"),
        help: "print one JSON object, or with --interval one per interval",
        apply: Apply::Switch(|partial, on| partial.top.json = on),
        ..ON
    },
    Flag {
        name: Cow::Borrowed("local"),
        help: "collect in this process, where no exporter runs",
        apply: Apply::Switch(|partial, on| partial.top.local = on),
        ..ON
    },
    Flag {
        name: Cow::Borrowed("no-color"),
        help: "no colours; NO_COLOR does the same",
        apply: Apply::Switch(|partial, on| partial.top.no_color = on),
        ..ON
    },
    Flag {
        name: Cow::Borrowed("ascii"),
        help: "only ASCII signs",
        apply: Apply::Switch(|partial, on| partial.top.ascii = on),
        ..ON
    },
];

/// Parses a URL of HTTP or HTTPS without user and password.
fn url(text: &str) -> Result<Uri, Reason> {
    let Ok(url) = text.parse::<Uri>() else { return Err(Reason::Host) };
    match url.scheme_str() {
        Some("http" | "https") if url.authority().is_some_and(|authority| !authority.as_str().contains('@')) => Ok(url),
        Some("http" | "https") => Err(Reason::MoreThanAddress),
        _ => Err(Reason::Scheme),
    }
}
