//! Flag before variable before default; each value handed to its row, every mistake kept; then the finished value.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use super::apply::{Draft, Wanted};
use super::flags::{Apply, FLAGS, Flag};
use super::help;
use super::lex::{Lexed, Occurrence, Word};
use super::mistakes::{Mistake, Mistakes, Origin, Reason};
use super::{Command, Config, EbpfMode, ListenAddress, SourceMode, globs, values};

/// The environment: answers for one variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The variable whose emptiness says something.
const EMPTY_COUNTS: &str = "USE_PSEUDO_FILES";

/// One value for one row.
struct Given<'a> {
    value: Option<Cow<'a, OsStr>>,
    negated: bool,
    origin: Origin,
}

/// Makes the command of what was lexed and of the environment.
pub(super) fn command(lexed: Lexed, env: Env<'_>) -> Result<Command, Mistakes> {
    let Lexed { occurrences, word, mut mistakes } = lexed;
    let mut draft = Draft::default();
    for flag in FLAGS.iter() {
        for given in given(flag, &occurrences, env) {
            apply(&mut draft, flag, &given, &mut mistakes);
        }
    }
    match draft.wanted {
        Some(Wanted::Help) => return Ok(Command::Help(help::help())),
        Some(Wanted::Version) => return Ok(Command::Version(help::version())),
        None => {}
    }
    let finished = finish(draft, env, &mut mistakes);
    match finished {
        Some(config) if mistakes.is_empty() => Ok(chosen(word, config)),
        _ => Err(Mistakes(mistakes)),
    }
}

fn chosen(word: Option<Word>, config: Config) -> Command {
    match word {
        None => Command::Serve(Box::new(config)),
        Some(Word::Doctor) => Command::Doctor(Box::new(config)),
        // One answer is enough: all addresses belong to one process.
        Some(Word::Healthcheck) => {
            let first = config.listen.into_iter().next();
            Command::Healthcheck(first.unwrap_or(ListenAddress::Any(8081)))
        }
    }
}

/// What was given for a row: its flags, else its first variable that is set, else its default.
fn given<'a>(flag: &'a Flag, occurrences: &'a [Occurrence], env: Env<'_>) -> Vec<Given<'a>> {
    let flags: Vec<Given<'_>> = occurrences
        .iter()
        .filter(|occurrence| !flag.name.is_empty() && occurrence.name == flag.name)
        .map(|occurrence| Given {
            value: occurrence.value.as_deref().map(Cow::Borrowed),
            negated: occurrence.negated,
            origin: Origin::CommandLine,
        })
        .collect();
    if !flags.is_empty() {
        return flags;
    }
    if let Some((name, value)) = variable(flag, env) {
        return vec![Given { value: Some(Cow::Owned(value)), negated: false, origin: Origin::Variable(name) }];
    }
    let default = flag.default_is_value.then(|| Cow::Borrowed(OsStr::new(flag.default)));
    default.map(|value| Given { value: Some(value), negated: false, origin: Origin::Default }).into_iter().collect()
}

fn variable(flag: &Flag, env: Env<'_>) -> Option<(&'static str, OsString)> {
    let set = |name: &'static str| env(name).map(|value| (name, value));
    flag.variables.iter().filter_map(|&name| set(name)).find(|(name, value)| !value.is_empty() || *name == EMPTY_COUNTS)
}

/// Hands the value to the row, and writes down what is wrong with it.
fn apply(draft: &mut Draft, flag: &Flag, given: &Given<'_>, mistakes: &mut Vec<Mistake>) {
    let value = given.value.as_deref();
    if let Err(reason) = try_apply(draft, flag, given) {
        mistakes.push(Mistake::of_value(flag, value.unwrap_or_default(), given.origin, reason));
    }
}

fn try_apply(draft: &mut Draft, flag: &Flag, given: &Given<'_>) -> Result<(), Reason> {
    let value = given.value.as_deref();
    let text = value.map(|value| value.to_str().map(str::trim).ok_or(Reason::NotUtf8));
    match flag.apply {
        Apply::Text(apply) => return apply(draft, text.transpose()?.unwrap_or_default()),
        Apply::Switch(apply) => apply(draft, values::switch(text.transpose()?)?),
        Apply::Collector(collector) => {
            draft.switched.push((collector, values::switch(text.transpose()?)? != given.negated));
        }
        Apply::Path(apply) => apply(draft, PathBuf::from(value.unwrap_or_default())),
        Apply::Directory(apply) => apply(draft, directory(value.unwrap_or_default(), given.origin)?),
    }
    Ok(())
}

/// A directory that was given must be readable. A default one that is absent is a fact about the host.
fn directory(value: &OsStr, origin: Origin) -> Result<PathBuf, Reason> {
    let path = PathBuf::from(value);
    if origin != Origin::Default {
        fs::read_dir(&path).map_err(Reason::Directory)?;
    }
    Ok(path)
}

/// What depends on more than one row. None where that is a mistake.
fn finish(draft: Draft, env: Env<'_>, mistakes: &mut Vec<Mistake>) -> Option<Config> {
    let labels = kept("containers.labels", globs::label_policy(draft.labels.as_deref()), mistakes);
    let filter = kept("containers.include", globs::container_filter(&draft.include, &draft.exclude), mistakes);
    let collectors = draft.collectors();
    if (draft.snapshot, draft.ebpf) == (EbpfMode::On, EbpfMode::Off) {
        kept::<()>("read.snapshot", Err(Reason::RuledOut("--ebpf=off: snapshots are taken by eBPF")), mistakes);
    }
    let certificates = draft.certificates.or_else(|| default_certificates(env));
    let docker = draft.docker.endpoint(draft.tls_verify, certificates);
    let docker = docker.map_err(|(directory, reason)| mistakes.extend(certificates_mistake(&directory, reason, env)));
    Some(Config {
        listen: draft.listen,
        telemetry_path: draft.telemetry_path,
        max_requests: draft.max_requests,
        source: draft.source.or(draft.pseudo_files).unwrap_or(SourceMode::Auto),
        cgroup_root: draft.cgroup_root,
        procfs_root: draft.procfs_root,
        docker: docker.ok()?,
        resync_interval: draft.resync_interval,
        min_interval: draft.min_interval,
        labels: labels?,
        filter: filter?,
        linger: draft.linger,
        schema: draft.schema,
        collectors,
        ebpf: draft.ebpf,
        snapshot: draft.snapshot,
        log_level: draft.log_level,
        log_format: draft.log_format,
    })
}

/// The value, or a mistake of this flag.
fn kept<T>(name: &str, made: Result<T, Reason>, mistakes: &mut Vec<Mistake>) -> Option<T> {
    let flag = FLAGS.iter().find(|flag| flag.name == name)?;
    made.map_err(|reason| mistakes.push(Mistake::of_flag(flag, reason))).ok()
}

/// Where Docker's own client looks when `DOCKER_CERT_PATH` is not set.
fn default_certificates(env: Env<'_>) -> Option<PathBuf> {
    env("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".docker"))
}

fn certificates_mistake(directory: &OsStr, reason: Reason, env: Env<'_>) -> Option<Mistake> {
    let flag = FLAGS.iter().find(|flag| flag.variables.contains(&"DOCKER_CERT_PATH"))?;
    let origin = variable(flag, env).map_or(Origin::Default, |(name, _)| Origin::Variable(name));
    Some(if directory.is_empty() {
        Mistake::of_flag(flag, reason)
    } else {
        Mistake::of_value(flag, directory, origin, reason)
    })
}
