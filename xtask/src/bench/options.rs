//! What the command line of `cargo xtask bench` says.

use anyhow::{Context, bail};

use super::cadvisor::Peer;

/// Numbers of containers, each on top of the one before.
const SIZES: [usize; 3] = [100, 1000, 5000];

pub(super) const USAGE: &str = "\
usage: cargo xtask bench [--write] [--docker] [--flag FLAG]... [--peer URL --peer-pid PID] [CONTAINERS...]   (as root)

  --write         also rewrites the tables in docs/OVERHEAD.md
  --docker        real containers, of the engine that `docker` talks to, instead of cgroups made for the purpose
  --flag FLAG     a further flag of the exporter that is measured, such as --flag --read.snapshot=off
  --peer URL      measures another exporter beside this one, which runs already as process PID";

/// What is to be measured.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) write: bool,
    pub(super) docker: bool,
    pub(super) peer: Option<Peer>,
    /// Further flags of the exporter.
    pub(super) flags: Vec<String>,
    /// From small to large.
    pub(super) sizes: Vec<usize>,
}

impl Options {
    /// Fails with the usage.
    pub(super) fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let (mut url, mut process) = (None, None);
        let mut rest = arguments.iter().copied();
        while let Some(word) = rest.next() {
            match word {
                "--write" => options.write = true,
                "--docker" => options.docker = true,
                "--flag" => options.flags.push(rest.next().context(USAGE)?.to_owned()),
                "--peer" => url = Some(rest.next().context(USAGE)?),
                "--peer-pid" => process = Some(rest.next().context(USAGE)?),
                number => {
                    let size = number.parse().ok().filter(|size| *size > 0);
                    options.sizes.push(size.with_context(|| format!("`{number}`\n{USAGE}"))?);
                }
            }
        }
        options.peer = match (url, process) {
            (Some(url), Some(process)) => Some(Peer::parse(url, process)?),
            (None, None) => None,
            _ => bail!("--peer and --peer-pid go together\n{USAGE}"),
        };
        if options.sizes.is_empty() {
            options.sizes = SIZES.to_vec();
        }
        options.sizes.sort_unstable();
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, SIZES};

    #[test]
    fn sizes_are_measured_from_small_to_large() {
        let options = Options::parse(&["1000", "--write", "10"]).unwrap();
        assert_eq!(options, Options { write: true, sizes: vec![10, 1000], ..Options::default() });
        assert_eq!(Options::parse(&[]).unwrap().sizes, SIZES);
        assert_eq!(Options::parse(&["--flag", "--ebpf=off", "7"]).unwrap().flags, ["--ebpf=off"]);
    }

    #[test]
    fn what_is_no_number_of_containers_is_answered_with_the_usage() {
        for arguments in [["0"].as_slice(), &["many"], &["--flag"], &["--peer"], &["--peer", "http://localhost"]] {
            let error = Options::parse(arguments).unwrap_err();
            assert!(format!("{error:#}").contains("cargo xtask bench [--write]"), "{error:#}");
        }
    }

    #[test]
    fn a_peer_has_an_address_and_a_process() {
        let options = Options::parse(&["--docker", "--peer", "http://localhost:9/m", "--peer-pid", "3"]).unwrap();
        assert!(options.docker && options.peer.is_some());
    }
}
