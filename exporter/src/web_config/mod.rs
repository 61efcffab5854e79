//! `--web.config.file`: TLS, client certificates, passwords, headers and a rate limit, in the format of Prometheus'
//! exporter-toolkit.
//!
//! `config` loads the file at start, so that every error ends the program before it listens. `serve` asks
//! [`WebConfig::current`] at every handshake and every request, which reads the files again when one has changed. While they
//! are faulty the last good ones count. [`WebConfig::directories`] is everything that is opened after start.
//!
//! | file | what it does |
//! |---|---|
//! | `yaml` | text → tree with lines |
//! | `document` | tree → sections, checked as far as the text tells |
//! | `problem` | every error, with line and key |
//! | `files` | reads files and sees when one has changed |
//! | `tls` | keys, versions, suites and curves → rustls |
//! | `client_certificates` | which certificates of clients are accepted |
//! | `users`, `passwords` | users and their stored hashes; checks of passwords |
//! | `password_cache`, `hashing` | results of earlier comparisons; the thread that compares |
//! | `rate_limit` | a token bucket |

mod client_certificates;
mod document;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hashing;
mod password_cache;
mod passwords;
mod problem;
mod rate_limit;
#[cfg(test)]
mod tests;
mod tls;
mod users;
mod yaml;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use hyper::HeaderMap;

use files::{Files, unreadable};
use password_cache::lock;
use passwords::Passwords;
use rate_limit::Bucket;
use users::Users;

pub use passwords::Verdict;
pub use problem::{Problem, Problems};
pub use tls::Tls;

/// What a file says, all of it checked.
#[derive(Debug)]
pub struct Loaded {
    /// TLS, unless plain HTTP is served.
    pub tls: Option<Tls>,
    /// Headers of every answer to somebody who may ask.
    pub headers: HeaderMap,
    users: Users,
    bucket: Option<Arc<Bucket>>,
    warnings: Vec<String>,
}

impl Loaded {
    /// Takes one request off what the rate limit allows. Returns whether there was one left.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket.allows(Instant::now()))
    }
}

/// Called after each reading of changed files, with whether they were good.
type Report = Box<dyn Fn(bool) + Send + Sync>;

/// The file, its present state, and what outlives its changes.
pub struct WebConfig {
    path: PathBuf,
    current: RwLock<Arc<Loaded>>,
    watched: Mutex<Watched>,
    passwords: Passwords,
    report: OnceLock<Report>,
}

#[derive(Debug)]
struct Watched {
    files: Files,
    /// What was logged of the files as they are now; empty when they are good.
    complaint: String,
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

impl WebConfig {
    /// Reads the file and all that it names.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let (files, loaded) = read(path, None);
        let loaded = loaded?;
        let no_random = || {
            let mut problems = Problems::default();
            problems.add(0, "", "the kernel gives no random numbers");
            problems
        };
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(loaded)),
            watched: Mutex::new(Watched { files, complaint: String::new() }),
            passwords: Passwords::new().ok_or_else(no_random)?,
            report: OnceLock::new(),
        })
    }

    /// Logs what works otherwise than the file asks, and reports from now on whether the files are good.
    pub fn begin(&self, report: impl Fn(bool) + Send + Sync + 'static) {
        self.warn(&self.present());
        report(true);
        drop(self.report.set(Box::new(report)));
    }

    fn warn(&self, loaded: &Loaded) {
        for warning in &loaded.warnings {
            tracing::warn!(file = %self.path.display(), "{warning}");
        }
    }

    fn present(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the directories of every file that is opened after start, links resolved too. Whatever confines this process
    /// must let it read them.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        lock(&self.watched).files.directories()
    }

    /// Returns whether TLS is served, which no change of the file changes.
    #[must_use]
    pub fn serves_tls(&self) -> bool {
        self.present().tls.is_some()
    }

    /// Returns what counts now. Reads the files again if one has changed.
    #[must_use]
    pub fn current(&self) -> Arc<Loaded> {
        // Who comes while another one reads gets what was good before.
        if let Ok(mut watched) = self.watched.try_lock()
            && watched.files.have_changed()
        {
            self.reload(&mut watched);
        }
        self.present()
    }

    fn reload(&self, watched: &mut Watched) {
        let before = self.present();
        let (files, loaded) = read(&self.path, Some(&before));
        watched.files = files;
        let outcome = loaded.map_err(|problems| problems.to_string()).and_then(|loaded| {
            if loaded.tls.is_some() == before.tls.is_some() {
                Ok(loaded)
            } else {
                Err("TLS is switched on or off only by a restart".to_owned())
            }
        });
        if let Some(report) = self.report.get() {
            report(outcome.is_ok());
        }
        let file = self.path.display();
        match outcome {
            Ok(loaded) => {
                watched.complaint.clear();
                tracing::info!(%file, "reloaded the web configuration");
                self.warn(&loaded);
                if loaded.users.is_empty() && !before.users.is_empty() {
                    tracing::warn!(%file, "the web configuration has no users any more: no password is required");
                }
                self.passwords.retain(&loaded.users);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
            }
            Err(complaint) if complaint == watched.complaint => {}
            Err(complaint) => {
                let hint = "the last good configuration stays, removed users included";
                tracing::error!(%file, error = complaint, hint, "cannot reload the web configuration: the previous one stays in force");
                watched.complaint = complaint;
            }
        }
    }

    /// Decides by the `Authorization` header whether a request may pass.
    pub async fn check(&self, loaded: &Loaded, authorization: Option<&[u8]>, client: IpAddr) -> Verdict {
        if loaded.users.is_empty() {
            return Verdict::Pass;
        }
        self.passwords.check(&loaded.users, authorization, client).await
    }
}

/// Reads and checks everything. Returns the files that were read also where they are faulty.
fn read(path: &Path, before: Option<&Loaded>) -> (Files, Result<Loaded, Problems>) {
    let (mut files, mut problems) = (Files::default(), Problems::default());
    let loaded = load(path, before, &mut files, &mut problems);
    (files, loaded.filter(|_| problems.0.is_empty()).ok_or(problems))
}

fn load(path: &Path, before: Option<&Loaded>, files: &mut Files, problems: &mut Problems) -> Option<Loaded> {
    let content = match files.read(path) {
        Ok(content) => content,
        Err(error) => {
            problems.add(0, "", unreadable(path, &error));
            return None;
        }
    };
    let Ok(text) = String::from_utf8(content) else {
        problems.add(0, "", "yaml: the file is not UTF-8");
        return None;
    };
    let document = document::read(&yaml::parse(&text, problems)?, problems);
    let mut warnings = Vec::new();
    let directory = tls::directory_of(path);
    let tls = document.tls.is_enabled().then(|| {
        let (section, http2, directory) = (&document.tls, document.http2, directory.as_path());
        tls::Builder { section, http2, directory, files, problems, warnings: &mut warnings }.build()
    });
    let slow = document.users.slow();
    if !slow.is_empty() {
        warnings.push(format!(
            "bcrypt costs above 14 take seconds for each new password, and can be distinguished from unknown users by the time: {}",
            slow.join(", ")
        ));
    }
    let kept = before.and_then(|before| before.bucket.clone());
    let bucket = document.rate.map(|rate| match kept.filter(|bucket| bucket.rate == rate) {
        Some(bucket) => bucket,
        None => Arc::new(Bucket::new(rate)),
    });
    let tls = match tls {
        None => None,
        Some(tls) => Some(tls?),
    };
    Some(Loaded { tls, headers: document.headers, users: document.users, bucket, warnings })
}
