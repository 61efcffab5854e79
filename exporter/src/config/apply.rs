//! What each row of the table does with its value: a small parser and a field of the draft.

use std::path::PathBuf;
use std::time::Duration;

use super::docker_url::{self, Url};
use super::mistakes::Reason;
use super::{EbpfMode, ListenAddress, LogFormat, Schema, SourceMode, globs, listen as addresses, values};
use crate::metrics::{Collector, CollectorSet};

/// What has been said so far. The table's defaults fill what nobody said.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) listen: Vec<ListenAddress>,
    pub(super) telemetry_path: String,
    pub(super) max_requests: usize,
    /// `--source`.
    pub(super) source: Option<SourceMode>,
    /// `USE_PSEUDO_FILES`, which `--source` overrules.
    pub(super) pseudo_files: Option<SourceMode>,
    pub(super) cgroup_root: PathBuf,
    pub(super) procfs_root: PathBuf,
    pub(super) docker: Url,
    pub(super) tls_verify: bool,
    pub(super) certificates: Option<PathBuf>,
    pub(super) resync_interval: Duration,
    pub(super) min_interval: Duration,
    /// None where nothing was said; empty where no label is wanted.
    pub(super) labels: Option<Vec<String>>,
    pub(super) include: Vec<String>,
    pub(super) exclude: Vec<String>,
    pub(super) linger: Duration,
    pub(super) schema: Schema,
    pub(super) disable_defaults: bool,
    /// Collectors named, in the order of the command line.
    pub(super) switched: Vec<(Collector, bool)>,
    pub(super) ebpf: EbpfMode,
    pub(super) snapshot: EbpfMode,
    pub(super) log_level: tracing::Level,
    pub(super) log_format: LogFormat,
    /// A text that is wanted instead of anything else.
    pub(super) wanted: Option<Wanted>,
}

/// Texts that are printed instead of anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Version,
    Help,
}

impl Default for Draft {
    /// Placeholders: a row without a value gives its default from the table.
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            telemetry_path: String::new(),
            max_requests: 0,
            source: None,
            pseudo_files: None,
            cgroup_root: PathBuf::new(),
            procfs_root: PathBuf::new(),
            docker: Url::Unix(PathBuf::new()),
            tls_verify: false,
            certificates: None,
            resync_interval: Duration::ZERO,
            min_interval: Duration::ZERO,
            labels: None,
            include: Vec::new(),
            exclude: Vec::new(),
            linger: Duration::ZERO,
            schema: Schema::Cadvisor,
            disable_defaults: false,
            switched: Vec::new(),
            ebpf: EbpfMode::Auto,
            snapshot: EbpfMode::Auto,
            log_level: tracing::Level::INFO,
            log_format: LogFormat::Logfmt,
            wanted: None,
        }
    }
}

impl Draft {
    /// Remembers a text that is wanted.
    pub(super) fn want(&mut self, wanted: Wanted, on: bool) {
        if on {
            self.wanted = Some(wanted);
        }
    }

    /// The collectors that are on, whatever the order of `--collector.disable-defaults` and the others.
    pub(super) fn collectors(&self) -> CollectorSet {
        let start = if self.disable_defaults { CollectorSet::EMPTY } else { CollectorSet::defaults() };
        self.switched.iter().fold(
            start,
            |set, &(collector, on)| {
                if on { set.with(collector) } else { set.without(collector) }
            },
        )
    }
}

type Applied = Result<(), Reason>;

pub(super) fn listen(draft: &mut Draft, text: &str) -> Applied {
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    if items.is_empty() {
        return Err(Reason::NoValue);
    }
    for item in items {
        let address = addresses::address(item)?;
        // Listening twice on one address would fail, and nobody means it.
        if !draft.listen.contains(&address) {
            draft.listen.push(address);
        }
    }
    Ok(())
}

pub(super) fn telemetry_path(draft: &mut Draft, text: &str) -> Applied {
    values::telemetry_path(text).map(|path| draft.telemetry_path = path)
}

pub(super) fn web_config_file(_: &mut Draft, _: &str) -> Applied {
    // Never serve unprotected what somebody asked to be protected.
    Err(Reason::NotInThisVersion("TLS, basic authentication and headers"))
}

pub(super) fn max_requests(draft: &mut Draft, text: &str) -> Applied {
    values::max_requests(text).map(|number| draft.max_requests = number)
}

pub(super) fn source(draft: &mut Draft, text: &str) -> Applied {
    let words = [("auto", SourceMode::Auto), ("cgroup", SourceMode::Cgroup), ("docker-api", SourceMode::DockerApi)];
    values::word(text, &words).map(|source| draft.source = Some(source))
}

pub(super) fn use_pseudo_files(draft: &mut Draft, text: &str) -> Applied {
    let cgroup = ["true", "yes", "enabled", "1"].map(|word| (word, SourceMode::Cgroup));
    let docker = ["false", "no", "disabled", "0", ""].map(|word| (word, SourceMode::DockerApi));
    let words = [cgroup.as_slice(), docker.as_slice()].concat();
    values::word(text, &words).map(|source| draft.pseudo_files = Some(source))
}

pub(super) fn min_interval(draft: &mut Draft, text: &str) -> Applied {
    values::duration(text).map(|interval| draft.min_interval = interval)
}

const WHEN: [(&str, EbpfMode); 3] = [("auto", EbpfMode::Auto), ("on", EbpfMode::On), ("off", EbpfMode::Off)];

pub(super) fn ebpf(draft: &mut Draft, text: &str) -> Applied {
    draft.ebpf = values::word(text, &WHEN)?;
    Ok(())
}

pub(super) fn snapshot(draft: &mut Draft, text: &str) -> Applied {
    draft.snapshot = values::word(text, &WHEN)?;
    Ok(())
}

pub(super) fn docker_url(draft: &mut Draft, text: &str) -> Applied {
    docker_url::url(text).map(|url| draft.docker = url)
}

#[expect(clippy::unnecessary_wraps, reason = "every row has the same shape")]
pub(super) fn tls_verify(draft: &mut Draft, _: &str) -> Applied {
    draft.tls_verify = true;
    Ok(())
}

pub(super) fn resync_interval(draft: &mut Draft, text: &str) -> Applied {
    let interval = values::duration(text)?;
    // A list without a pause would keep the engine busy for nothing: events bring what is new.
    if interval < Duration::from_secs(1) {
        return Err(Reason::TooShort);
    }
    draft.resync_interval = interval;
    Ok(())
}

pub(super) fn labels(draft: &mut Draft, text: &str) -> Applied {
    let items = globs::labels(text)?;
    draft.labels.get_or_insert_default().extend(items);
    Ok(())
}

pub(super) fn include(draft: &mut Draft, text: &str) -> Applied {
    globs::containers(text).map(|items| draft.include.extend(items))
}

pub(super) fn exclude(draft: &mut Draft, text: &str) -> Applied {
    globs::containers(text).map(|items| draft.exclude.extend(items))
}

pub(super) fn linger(draft: &mut Draft, text: &str) -> Applied {
    values::duration(text).map(|linger| draft.linger = linger)
}

pub(super) fn schema(draft: &mut Draft, text: &str) -> Applied {
    let words = [("cadvisor", Schema::Cadvisor), ("docker-stats", Schema::DockerStats), ("both", Schema::Both)];
    values::word(text, &words).map(|schema| draft.schema = schema)
}

pub(super) fn log_level(draft: &mut Draft, text: &str) -> Applied {
    use tracing::Level;
    let words = [
        ("trace", Level::TRACE),
        ("debug", Level::DEBUG),
        ("info", Level::INFO),
        ("warn", Level::WARN),
        // Python's word, which the predecessor's users know.
        ("warning", Level::WARN),
        ("error", Level::ERROR),
    ];
    values::word(text, &words).map(|level| draft.log_level = level)
}

pub(super) fn log_format(draft: &mut Draft, text: &str) -> Applied {
    let words = [("logfmt", LogFormat::Logfmt), ("json", LogFormat::Json)];
    values::word(text, &words).map(|format| draft.log_format = format)
}
