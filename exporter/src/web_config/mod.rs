//! Reads `--web.config.file`: TLS, client certificates, passwords, headers and a rate limit, in the format of Prometheus'
//! exporter-toolkit.
//!
//! `config` loads the file at start, so that an error ends the program before it listens. `serve` calls
//! [`WebConfig::current`] at every handshake and every request, which reads the files again when one has changed. If they have
//! errors, the last good configuration stays in force. All files that are opened after start are in
//! [`WebConfig::directories`].
//!
//! | file | what it does |
//! |---|---|
//! | `yaml` | parses the text into a tree with lines |
//! | `document` | reads the sections of the tree and checks them |
//! | `files` | reads files and detects changes |
//! | `tls` | builds the TLS server from keys, versions, suites and curves |
//! | `client_certificates` | decides which certificates of clients are accepted |
//! | `users` | users, their stored hashes, and the credentials of a request |
//! | `passwords` | checks passwords: the cache, and the threads that compare |
//! | `rate_limit` | a token bucket |

mod client_certificates;
mod document;
mod files;
mod passwords;
mod rate_limit;
#[cfg(test)]
mod tests;
mod tls;
mod users;
mod yaml;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use hyper::HeaderMap;

use files::{Files, unreadable};
use passwords::Passwords;
use rate_limit::Bucket;
use users::Users;

pub use passwords::Verdict;
pub(crate) use tls::SYSTEM_AUTHORITIES;
pub use tls::Tls;

/// A configuration whose files have no errors.
#[derive(Debug)]
pub struct Loaded {
    /// TLS; none for plain HTTP.
    pub tls: Option<Tls>,
    /// Headers that are added to the answers.
    pub headers: HeaderMap,
    users: Users,
    bucket: Option<Arc<Bucket>>,
    warnings: Vec<String>,
}

impl Loaded {
    /// Counts one request against the rate limit. Returns whether it is allowed.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| bucket.allows(Instant::now()))
    }
}

/// Is called after each reading of changed files, with whether they have no errors.
type Report = Box<dyn Fn(bool) + Send + Sync>;

/// The file, its configuration in force, and the state that outlives changes of the file.
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
    /// The logged error of the files as they are now; empty without one.
    logged_error: String,
}

impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

impl WebConfig {
    /// Reads the file and the files that it names.
    ///
    /// # Errors
    /// Every error in the files.
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
            watched: Mutex::new(Watched { files, logged_error: String::new() }),
            passwords: Passwords::new().ok_or_else(no_random)?,
            report: OnceLock::new(),
        })
    }

    /// Logs the warnings, and calls `report` now and after each later reading, with whether the files have no errors.
    pub fn begin(&self, report: impl Fn(bool) + Send + Sync + 'static) {
        self.log_warnings(&self.in_force());
        report(true);
        drop(self.report.set(Box::new(report)));
    }

    fn log_warnings(&self, loaded: &Loaded) {
        for warning in &loaded.warnings {
            tracing::warn!(file = %self.path.display(), "{warning}");
        }
    }

    /// Returns the configuration in force without reading files.
    fn in_force(&self) -> Arc<Loaded> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns the directories of every file that is opened after start, as named and with links resolved. The sandbox must
    /// leave them readable.
    #[must_use]
    pub fn directories(&self) -> Vec<PathBuf> {
        lock(&self.watched).files.directories()
    }

    /// Returns whether TLS is served. A change of the file cannot switch it.
    #[must_use]
    pub fn serves_tls(&self) -> bool {
        self.in_force().tls.is_some()
    }

    /// Returns the configuration in force. Reads the files first if one has changed.
    #[must_use]
    pub fn current(&self) -> Arc<Loaded> {
        // While another thread reads, the earlier configuration stays in force.
        if let Ok(mut watched) = self.watched.try_lock()
            && watched.files.have_changed()
        {
            self.reload(&mut watched);
        }
        self.in_force()
    }

    fn reload(&self, watched: &mut Watched) {
        let before = self.in_force();
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
                watched.logged_error.clear();
                tracing::info!(%file, "reloaded the web configuration");
                self.log_warnings(&loaded);
                if loaded.users.is_empty() && !before.users.is_empty() {
                    tracing::warn!(%file, "the web configuration has no users any more: no password is required");
                }
                self.passwords.retain(&loaded.users);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
            }
            Err(error) if error == watched.logged_error => {}
            Err(error) => {
                let hint = "the last good configuration stays, removed users included";
                tracing::error!(%file, error, hint, "cannot reload the web configuration: the previous one stays in force");
                watched.logged_error = error;
            }
        }
    }

    /// Checks the `Authorization` header of a request. Without users every request passes.
    pub async fn check(&self, loaded: &Loaded, authorization: Option<&[u8]>, client: IpAddr) -> Verdict {
        if loaded.users.is_empty() {
            return Verdict::Pass;
        }
        self.passwords.check(&loaded.users, authorization, client).await
    }
}

/// Reads and checks all files. Returns also the files that were read, whether or not they have errors.
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
    let tls = if document.tls.is_enabled() {
        let directory = path.parent().unwrap_or(Path::new(""));
        let (section, http2) = (&document.tls, document.http2);
        Some(tls::Builder { section, http2, directory, files, problems, warnings: &mut warnings }.build()?)
    } else {
        None
    };
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
    Some(Loaded { tls, headers: document.headers, users: document.users, bucket, warnings })
}

/// One error in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; 0 for the whole file.
    line: u64,
    /// Path of the key, such as `tls_server_config.cert_file`; empty for the whole file.
    key: String,
    /// The error, and what is accepted.
    what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// Every error of a configuration.
#[derive(Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds an error.
    fn add(&mut self, line: u64, key: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { line, key: key.into(), what: what.into() });
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Locks a mutex. No code panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fuzz targets of the file and of the certificates that clients show.
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use crate::web_config::client_certificates::names;
    use crate::web_config::{Problems, document, yaml};

    /// Checks that a file is either accepted or has an error that names a line of the file.
    pub(crate) fn file(bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let mut problems = Problems::default();
        let root = yaml::parse(&text, &mut problems);
        assert_eq!(root.is_none(), !problems.0.is_empty(), "{problems}");
        if let Some(root) = root {
            _ = document::read(&root, &mut problems);
        }
        let lines = text.split(['\n', '\r']).count() as u64 + 1;
        assert!(problems.0.iter().all(|problem| problem.line <= lines), "{problems}");
    }

    /// Checks that a certificate has no more names than it has bytes, and that PEM of any kind is read to its end.
    pub(crate) fn certificate(bytes: &[u8]) {
        assert!(names(&CertificateDer::from(bytes.to_vec())).len() <= bytes.len());
        assert!(CertificateDer::pem_slice_iter(bytes).take(bytes.len() + 1).count() <= bytes.len());
        _ = PrivateKeyDer::from_pem_slice(bytes);
    }
}
