//! Picks the value of each row (flag before variable before default), writes it to the configuration, and combines values
//! of several rows.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{Args, CommandName, GivenFlag};
use super::docker_url::{self, Url};
use super::error::{Error, Errors, Origin, Reason};
use super::flag::{Apply, Flag, Group, Partial, Print};
use super::table::FLAGS;
use super::types::{Command, Config, FeatureMode, ListenAddress};
use super::values::borrowed;
use super::{help, values};
use crate::metrics::CollectorSet;
use crate::name::{ContainerFilter, DEFAULT_LABELS, LabelPolicy, MetricFilter};
use crate::web_config::WebConfig;

/// The environment, which returns the value of a variable.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The variable whose empty value counts as a value.
const EMPTY_IS_A_VALUE: &str = "USE_PSEUDO_FILES";

/// One value of a row.
struct Given<'a> {
    value: Option<Cow<'a, OsStr>>,
    negated: bool,
    origin: Origin,
}

/// Builds the command from the split command line and the environment.
pub(super) fn command(args: Args, env: Env<'_>) -> Result<Command, Errors> {
    let Args { flags, command, mut errors } = args;
    let mut partial = Partial::new();
    for row in FLAGS.iter() {
        for given in given(row, &flags, env) {
            if let Err(reason) = apply(&mut partial, row, &given) {
                let value = given.value.as_deref().unwrap_or_default();
                errors.push(row.error(reason).with_value(value, given.origin));
            }
        }
    }
    if command != Some(CommandName::Top) {
        let top_only = |flag: &&GivenFlag| FLAGS.iter().any(|row| row.name == flag.name && row.group == Group::Top);
        errors.extend(flags.iter().filter(top_only).map(|flag| {
            Error::new(format!("--{}", flag.name), Reason::OnlyTop, "accepted: docker-stats-exporter top".to_owned())
        }));
    }
    match partial.print {
        Some(Print::Help) => return Ok(Command::Help(help::help())),
        Some(Print::Version) => return Ok(Command::Version(help::version())),
        None => {}
    }
    let top = std::mem::take(&mut partial.top);
    let web_config = partial.web_config.clone().filter(|path| !path.as_os_str().is_empty());
    let mut config = combine(partial, env, &mut errors);
    if let Some(path) = web_config.as_deref().filter(|_| matches!(command, None | Some(CommandName::Doctor))) {
        config.web = load_web_config(path, &flags, env, &mut errors);
    }
    if !errors.is_empty() {
        return Err(Errors(errors));
    }
    Ok(match command {
        None => Command::Serve(Box::new(config)),
        Some(CommandName::Top) => {
            let options = top.options(&config);
            Command::Top(Box::new(config), Box::new(options))
        }
        Some(CommandName::Doctor) => Command::Doctor(Box::new(config)),
        // The first address suffices, because all addresses belong to one process.
        Some(CommandName::Healthcheck) => {
            let address = config.listen.into_iter().next().unwrap_or(ListenAddress::Any(8081));
            Command::Healthcheck {
                address,
                is_given: flags.iter().any(|flag| flag.name == "web.listen-address"),
                web_config,
            }
        }
    })
}

/// Returns the values of a row: those of its flags, otherwise of its first variable that is set, otherwise its default.
fn given<'a>(row: &'a Flag, flags: &'a [GivenFlag], env: Env<'_>) -> Vec<Given<'a>> {
    let flags: Vec<Given<'_>> = flags
        .iter()
        .filter(|flag| !row.name.is_empty() && flag.name == row.name)
        .map(|flag| Given {
            value: flag.value.as_deref().map(Cow::Borrowed),
            negated: flag.negated,
            origin: Origin::CommandLine,
        })
        .collect();
    if !flags.is_empty() {
        return flags;
    }
    if let Some((name, value)) = variable(row, env) {
        return vec![Given { value: Some(Cow::Owned(value)), negated: false, origin: Origin::Variable(name) }];
    }
    let default = row.default_is_value.then(|| Cow::Borrowed(OsStr::new(row.default)));
    default.map(|value| Given { value: Some(value), negated: false, origin: Origin::Default }).into_iter().collect()
}

fn variable(row: &Flag, env: Env<'_>) -> Option<(&'static str, OsString)> {
    let set = |name: &'static str| env(name).map(|value| (name, value));
    let mut variables = row.variables.iter().filter_map(|&name| set(name));
    variables.find(|(name, value)| !value.is_empty() || *name == EMPTY_IS_A_VALUE)
}

fn apply(partial: &mut Partial, row: &Flag, given: &Given<'_>) -> Result<(), Reason> {
    let value = given.value.as_deref();
    let text = value.map(|value| value.to_str().map(str::trim).ok_or(Reason::NotUtf8));
    match row.apply {
        Apply::Text(apply) => return apply(partial, text.transpose()?.unwrap_or_default()),
        Apply::Switch(apply) => apply(partial, values::switch(text.transpose()?)?),
        Apply::Collector(collector) => {
            partial.collectors.push((collector, values::switch(text.transpose()?)? != given.negated));
        }
        Apply::Path(apply) => apply(partial, PathBuf::from(value.unwrap_or_default())),
        Apply::Directory(apply) => apply(partial, directory(value.unwrap_or_default(), given.origin)?),
    }
    Ok(())
}

/// Returns a directory. It must be readable unless it is the default, which may be missing on this host.
fn directory(value: &OsStr, origin: Origin) -> Result<PathBuf, Reason> {
    let path = PathBuf::from(value);
    if origin != Origin::Default {
        fs::read_dir(&path).map_err(Reason::Directory)?;
    }
    Ok(path)
}

/// Builds the configuration, including the fields that depend on several rows.
fn combine(partial: Partial, env: Env<'_>, errors: &mut Vec<Error>) -> Config {
    let mut config = partial.config;
    config.source = partial.source.or(partial.pseudo_files).unwrap_or(config.source);
    let start = if partial.disable_defaults { CollectorSet::EMPTY } else { CollectorSet::defaults() };
    let switched = |start: CollectorSet| {
        let switch =
            |set: CollectorSet, &(collector, on)| if on { set.with(collector) } else { set.without(collector) };
        partial.collectors.iter().fold(start, switch)
    };
    (config.collectors, config.named_collectors) = (switched(start), switched(CollectorSet::EMPTY));
    let labels = partial.labels.as_deref().map_or_else(|| DEFAULT_LABELS.to_vec(), borrowed);
    match LabelPolicy::new(&labels) {
        Ok(labels) => config.labels = labels,
        Err(globs) => errors.extend(row("containers.labels").map(|row| row.error(Reason::Glob(globs)))),
    }
    match ContainerFilter::new(&borrowed(&partial.include), &borrowed(&partial.exclude)) {
        Ok(filter) => config.filter = filter,
        Err(globs) => errors.extend(row("containers.include").map(|row| row.error(Reason::Glob(globs)))),
    }
    match values::cgroup_filter(&borrowed(&partial.cgroups)) {
        Ok(cgroups) => config.cgroups = cgroups,
        Err(globs) => errors.extend(row("cgroups.include").map(|row| row.error(Reason::Glob(globs)))),
    }
    match MetricFilter::new(&borrowed(&partial.include_metrics), &borrowed(&partial.exclude_metrics)) {
        Ok(filter) => config.metrics = filter,
        Err(globs) => errors.extend(row("metrics.include").map(|row| row.error(Reason::Glob(globs)))),
    }
    if (config.snapshot, config.ebpf) == (FeatureMode::On, FeatureMode::Off) {
        let reason = Reason::RuledOut("--ebpf=off: snapshots are taken by eBPF");
        errors.extend(row("read.snapshot").map(|row| row.error(reason)));
    }
    let certificates = partial.certificates.or_else(|| default_certificates(env));
    let endpoint = |url: Url| url.endpoint(partial.tls_verify, certificates.clone());
    match partial.docker_urls.into_iter().map(endpoint).collect::<Result<Vec<_>, _>>() {
        Ok(endpoints) => config.docker = docker_url::distinct(endpoints),
        Err((directory, reason)) => errors.extend(certificates_error(&directory, reason, env)),
    }
    config
}

/// Reads the file of `--web.config.file` and adds its errors to the others.
fn load_web_config(path: &Path, flags: &[GivenFlag], env: Env<'_>, errors: &mut Vec<Error>) -> Option<Arc<WebConfig>> {
    let row = row("web.config.file")?;
    let given = given(row, flags, env).pop()?;
    match WebConfig::load(path) {
        Ok(web) => Some(Arc::new(web)),
        Err(problems) => {
            let error = |problem| row.error(Reason::WebConfig(problem)).with_value(path.as_os_str(), given.origin);
            errors.extend(problems.0.into_iter().map(error));
            None
        }
    }
}

fn row(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|row| row.name == name)
}

/// Returns the default of `DOCKER_CERT_PATH`, which is that of Docker's own client.
fn default_certificates(env: Env<'_>) -> Option<PathBuf> {
    env("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".docker"))
}

fn certificates_error(directory: &OsStr, reason: Reason, env: Env<'_>) -> Option<Error> {
    let row = FLAGS.iter().find(|row| row.variables.contains(&"DOCKER_CERT_PATH"))?;
    let origin = variable(row, env).map_or(Origin::Default, |(name, _)| Origin::Variable(name));
    let error = row.error(reason);
    Some(if directory.is_empty() { error } else { error.with_value(directory, origin) })
}
