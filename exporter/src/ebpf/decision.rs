//! Decides whether to load programs at all, for the server and for `doctor`.

use crate::config::{Config, FeatureMode, SourceMode};
use crate::discover::Hierarchy;
use crate::metrics::CollectorSet;

use super::error::Unsupported;

/// The decision. The [`super::Report`] of started programs says what each of them lacks.
#[derive(Debug)]
pub enum Decision {
    /// No collector needs programs.
    Off,
    /// Programs are wanted, but nothing here maps their counts to containers.
    Useless(Unsupported),
    /// Start the programs of these collectors on this host.
    Start(CollectorSet, Box<Hierarchy>),
}

impl Decision {
    /// Decides for a configuration on this host.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let wanted: CollectorSet = config.collectors.iter().filter(|collector| collector.is_probed()).collect();
        if config.ebpf == FeatureMode::Off || (wanted.is_empty() && config.snapshot == FeatureMode::Off) {
            return Self::Off;
        }
        let useless = |missing: String, hint: &str| Self::Useless(Unsupported::new(missing, hint));
        if config.source == SourceMode::DockerApi {
            return useless(
                "values come from the Docker API, as asked for".to_owned(),
                "with --source=auto they run where the files are read",
            );
        }
        let root = config.cgroup_root.display();
        match Hierarchy::detect(&config.cgroup_root) {
            Err(error) => useless(format!("no cgroup tree can be read ({error})"), "give us the host's /sys/fs/cgroup"),
            Ok(found) if found.is_blind() => useless(
                format!("{root} is our own container's cgroup and not the host's tree"),
                "give us the host's (-v /sys/fs/cgroup:/sys/fs/cgroup:ro)",
            ),
            Ok(found) if !found.is_live() => useless(
                format!("{root} is a copy of a cgroup tree and not the kernel's own"),
                "--path.cgroup=/sys/fs/cgroup",
            ),
            Ok(found) => Self::Start(wanted, Box::new(found)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Decision;
    use crate::config::{Command, Config};

    fn config(args: &[&str]) -> Config {
        match Config::from(args.iter().map(Into::into), |_| None) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    fn missing(config: &Config) -> String {
        match Decision::of(config) {
            Decision::Useless(unsupported) => unsupported.to_string(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_started_without_the_kernel_s_own_tree() {
        let capture = tempfile::tempdir().unwrap();
        let root = format!("--path.cgroup={}", capture.path().display());
        assert!(missing(&config(&[&root])).contains("no cgroup tree"));
        fs::write(capture.path().join("cgroup.controllers"), "cpu memory\n").unwrap();
        for mode in ["--ebpf=auto", "--ebpf=on"] {
            assert!(missing(&config(&[&root, mode])).contains("is a copy"));
        }
        assert!(missing(&config(&[&root, "--source=docker-api"])).contains("Docker API"));
    }

    #[test]
    fn what_nobody_wants_is_off_wherever_it_is() {
        let nothing = [
            "--ebpf=on",
            "--read.snapshot=off",
            "--no-collector.tasks",
            "--no-collector.ebpf_network",
            "--no-collector.ebpf_blkio",
        ];
        for args in [&["--ebpf=off"][..], &nothing] {
            assert!(matches!(Decision::of(&config(args)), Decision::Off), "{args:?}");
        }
    }
}
