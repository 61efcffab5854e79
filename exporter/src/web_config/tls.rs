//! Builds the TLS server of rustls from `tls_server_config`.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ServerConfig};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{Error, InconsistentKeys, SupportedCipherSuite, SupportedProtocolVersion, version};

use super::Problems;
use super::client_certificates::{CLIENT_AUTH_TYPES, ClientAuth, ClientCertificates};
use super::document::{Text, TlsSection};
use super::files::{Files, sha256, unreadable};

/// The TLS server.
#[derive(Debug)]
pub struct Tls {
    /// The configuration for handshakes.
    pub server: Arc<ServerConfig>,
    /// Digest of the rules for client certificates: type, authorities and names.
    pub client_rules: [u8; 32],
    /// The server's own certificate.
    pub certificate: CertificateDer<'static>,
}

/// The suites of TLS 1.2 and 1.3 by Go's names, in Go's order of preference.
const SUITES: &[(&str, Suite)] = &[
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        Suite::Tls12(ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Suite::Tls12(ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        Suite::Tls12(ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Suite::Tls12(ring::cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Suite::Tls12(ring::cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        Suite::Tls12(ring::cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_AES_128_GCM_SHA256", Suite::Tls13(ring::cipher_suite::TLS13_AES_128_GCM_SHA256)),
    ("TLS_AES_256_GCM_SHA384", Suite::Tls13(ring::cipher_suite::TLS13_AES_256_GCM_SHA384)),
    ("TLS_CHACHA20_POLY1305_SHA256", Suite::Tls13(ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", Suite::Absent),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", Suite::Absent),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", Suite::Absent),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", Suite::Absent),
];

#[derive(Clone, Copy, Debug)]
enum Suite {
    Tls12(SupportedCipherSuite),
    /// Is always on, as in Go.
    Tls13(SupportedCipherSuite),
    /// Is not supported by rustls.
    Absent,
}

/// The suites of which HTTP/2 over TLS 1.2 needs one (RFC 9113, 9.2.2).
const FOR_HTTP2: [&str; 2] = ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"];

/// The curves by Go's names; none for one that this TLS library does not have.
const CURVES: &[(&str, Option<&'static dyn SupportedKxGroup>)] = &[
    ("X25519", Some(ring::kx_group::X25519)),
    ("CurveP256", Some(ring::kx_group::SECP256R1)),
    ("CurveP384", Some(ring::kx_group::SECP384R1)),
    ("CurveP521", None),
];

/// The versions by their words in the file, in ascending order.
const VERSIONS: &[&str] = &["TLS10", "TLS11", "TLS12", "TLS13"];

/// Files with the authorities that the system trusts, by distribution. The first that can be read is used.
pub(crate) const SYSTEM_AUTHORITIES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Builds [`Tls`] from a section. Relative paths are below `directory`.
pub(super) struct Builder<'a> {
    pub(super) section: &'a TlsSection,
    pub(super) http2: bool,
    pub(super) directory: &'a Path,
    pub(super) files: &'a mut Files,
    pub(super) problems: &'a mut Problems,
    pub(super) warnings: &'a mut Vec<String>,
}

impl Builder<'_> {
    /// Returns none on errors, which are added to `problems`.
    pub(super) fn build(mut self) -> Option<Tls> {
        let before = self.problems.0.len();
        let versions = self.versions();
        let suites = self.suites(&versions);
        let groups = self.groups();
        let auth = self.client_auth();
        let authorities = self.authorities(auth);
        let chain = self.certificates();
        let key = self.key();
        if self.problems.0.len() > before {
            return None;
        }
        let provider =
            Arc::new(CryptoProvider { cipher_suites: suites, kx_groups: groups, ..ring::default_provider() });
        let (chain, (key_line, key_name, key)) = (chain?, key?);
        let certificate = chain.first().cloned()?;
        let certified = match CertifiedKey::from_der(chain, key, &provider) {
            Ok(certified) => certified,
            Err(error) => {
                self.problems.add(key_line, key_name, mismatch(&error));
                return None;
            }
        };
        let rules = self.client_rules(auth, &authorities);
        let clients = ClientCertificates::new(auth, authorities, self.section.client_allowed_sans.clone(), &provider);
        let clients = match clients {
            Ok(clients) => clients,
            Err(error) => {
                self.add(self.section.client_ca_file.as_ref().or(self.section.client_ca.as_ref()), "client_ca", error);
                return None;
            }
        };
        let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
        let builder = match builder {
            Ok(builder) => builder,
            Err(error) => {
                self.problems.add(self.section.line, "tls_server_config", error.to_string());
                return None;
            }
        };
        let asks_clients = clients.is_some();
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        server.ignore_client_order = true;
        server.alpn_protocols = if self.http2 { vec![b"h2".to_vec()] } else { Vec::new() };
        server.alpn_protocols.push(b"http/1.1".to_vec());
        if asks_clients {
            // A client that resumes a session would not be asked for its certificate again.
            server.session_storage = Arc::new(NoServerSessionStorage {});
            server.send_tls13_tickets = 0;
        }
        Some(Tls { server: Arc::new(server), client_rules: rules, certificate })
    }

    /// Adds an error in the line of a text, or without one in that of the section.
    fn add(&mut self, text: Option<&Text>, key: &str, what: impl Into<String>) {
        let line = text.map_or(self.section.line, |text| text.line);
        self.problems.add(line, format!("tls_server_config.{key}"), what);
    }

    /// Returns the index of a version in [`VERSIONS`].
    fn version(&mut self, given: Option<&Text>, key: &str, default: usize) -> usize {
        let Some(given) = given else { return default };
        let known = VERSIONS.iter().position(|name| *name == given.value);
        known.unwrap_or_else(|| {
            let accepted = VERSIONS.join(", ");
            self.add(Some(given), key, format!("unknown TLS version: {}; accepted: {accepted}", given.value));
            default
        })
    }

    fn versions(&mut self) -> Vec<&'static SupportedProtocolVersion> {
        let section = self.section;
        let lowest = self.version(section.min_version.as_ref(), "min_version", 2);
        let highest = self.version(section.max_version.as_ref(), "max_version", 3);
        if highest < 2 {
            let what = "TLS 1.0 and 1.1 are broken and not served; accepted: TLS12, TLS13";
            self.add(section.max_version.as_ref(), "max_version", what);
        } else if lowest > highest {
            self.add(section.min_version.as_ref(), "min_version", "is above max_version");
        }
        let all = [(2, &version::TLS12), (3, &version::TLS13)];
        all.into_iter().filter(|(number, _)| (lowest..=highest).contains(number)).map(|(_, version)| version).collect()
    }

    /// Returns the given suites of TLS 1.2, or all without any, and all suites of TLS 1.3.
    fn suites(&mut self, versions: &[&'static SupportedProtocolVersion]) -> Vec<SupportedCipherSuite> {
        let given = &self.section.cipher_suites;
        let (mut absent, mut is_known) = (Vec::new(), true);
        for name in given {
            match SUITES.iter().find(|(known, _)| *known == name.value) {
                None => {
                    is_known = false;
                    let names: Vec<&str> = SUITES.iter().map(|(known, _)| *known).collect();
                    let what = format!("unknown cipher: {}; accepted: {}", name.value, names.join(", "));
                    self.add(Some(name), "cipher_suites", what);
                }
                Some((name, Suite::Absent)) => absent.push(*name),
                Some(_) => {}
            }
        }
        if !absent.is_empty() {
            self.warnings.push(format!("these suites are not served, as CBC is not safe: {}", absent.join(", ")));
        }
        let is_wanted = |name: &str| given.is_empty() || given.iter().any(|given| given.value == name);
        let chosen: Vec<_> = SUITES
            .iter()
            .filter_map(|(name, suite)| match suite {
                Suite::Tls12(suite) => is_wanted(name).then_some(*suite),
                Suite::Tls13(suite) => Some(*suite),
                Suite::Absent => None,
            })
            .collect();
        let serves_12 = versions.contains(&&version::TLS12);
        let first = given.first();
        if serves_12 && is_known && !given.is_empty() {
            if self.http2 && !FOR_HTTP2.iter().any(|name| is_wanted(name)) {
                let what = format!(
                    "TLSConfig.CipherSuites is missing an HTTP/2-required AES_128_GCM_SHA256 cipher: add {} or {}, or set \
                     http_server_config.http2 to false",
                    FOR_HTTP2[0], FOR_HTTP2[1]
                );
                self.add(first, "cipher_suites", what);
            } else if !chosen.iter().any(|suite| versions == [&version::TLS13] || suite.version() == &version::TLS12) {
                self.add(first, "cipher_suites", "none is left for TLS 1.2: add one, or set min_version to TLS13");
            }
        }
        chosen
    }

    fn groups(&mut self) -> Vec<&'static dyn SupportedKxGroup> {
        let given = &self.section.curve_preferences;
        let mut groups = Vec::new();
        let mut is_known = true;
        for name in given {
            match CURVES.iter().find(|(known, _)| *known == name.value) {
                Some((_, Some(group))) => groups.push(*group),
                Some((name, None)) => {
                    self.warnings.push(format!("{name} is not served: this TLS library does not have it"));
                }
                None => {
                    is_known = false;
                    let names: Vec<&str> = CURVES.iter().map(|(known, _)| *known).collect();
                    let what = format!("unknown curve: {}; accepted: {}", name.value, names.join(", "));
                    self.add(Some(name), "curve_preferences", what);
                }
            }
        }
        if given.is_empty() {
            return CURVES.iter().filter_map(|(_, group)| *group).collect();
        }
        if groups.is_empty() && is_known {
            let what = "CurveP521 alone cannot be served: this TLS library does not have it; add CurveP256, CurveP384 or X25519";
            self.add(given.first(), "curve_preferences", what);
        }
        groups
    }

    fn client_auth(&mut self) -> ClientAuth {
        let section = self.section;
        let auth = section.client_auth_type.as_ref().map_or(Some(ClientAuth::No), |given| {
            let known = CLIENT_AUTH_TYPES.iter().find(|(word, _)| *word == given.value).map(|(_, auth)| *auth);
            if known.is_none() {
                let words: Vec<&str> = CLIENT_AUTH_TYPES.iter().map(|(word, _)| *word).collect();
                let what = format!("invalid ClientAuth: {}; accepted: {}", given.value, words.join(", "));
                self.add(Some(given), "client_auth_type", what);
            }
            known
        });
        let authorities = section.client_ca_file.as_ref().or(section.client_ca.as_ref());
        if auth == Some(ClientAuth::No) && authorities.is_some() {
            let what = "client CA's have been configured without a Client Auth Policy: set client_auth_type";
            self.add(authorities, "client_ca_file", what);
        }
        auth.unwrap_or(ClientAuth::No)
    }

    /// Returns the authorities for client certificates: those of the file, else those of the system.
    fn authorities(&mut self, auth: ClientAuth) -> Vec<CertificateDer<'static>> {
        let section = self.section;
        let given = section.client_ca_file.as_ref().or(section.client_ca.as_ref());
        let Some((pem, key, at)) = self.pem(section.client_ca_file.as_ref(), section.client_ca.as_ref(), "client_ca")
        else {
            return if given.is_none() && auth.verifies() { self.system_authorities() } else { Vec::new() };
        };
        if auth == ClientAuth::No {
            return Vec::new();
        }
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match found {
            Ok(found) if !found.is_empty() => found,
            Ok(_) => {
                self.problems.add(at, key, "has no certificate (-----BEGIN CERTIFICATE-----)");
                Vec::new()
            }
            Err(error) => {
                self.problems.add(at, key, format!("is not PEM: {error}"));
                Vec::new()
            }
        }
    }

    fn system_authorities(&mut self) -> Vec<CertificateDer<'static>> {
        let pem = SYSTEM_AUTHORITIES.iter().find_map(|path| self.files.read(Path::new(path)).ok());
        let found: Vec<_> =
            pem.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem)).filter_map(Result::ok).collect();
        let from = if found.is_empty() { "no certificate of a client will be accepted" } else { "the system's count" };
        self.warnings.push(format!("tls_server_config has no client_ca_file: {from}"));
        found
    }

    fn certificates(&mut self) -> Option<Vec<CertificateDer<'static>>> {
        let section = self.section;
        if section.cert.is_none() && section.cert_file.is_none() {
            self.add(None, "cert_file", "missing one of cert or cert_file");
            return None;
        }
        let (pem, key, line) = self.pem(section.cert_file.as_ref(), section.cert.as_ref(), "cert")?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match chain {
            Ok(chain) if !chain.is_empty() => return Some(chain),
            Ok(_) => self.problems.add(line, key, "has no certificate (-----BEGIN CERTIFICATE-----)"),
            Err(error) => self.problems.add(line, key, format!("is not PEM: {error}")),
        }
        None
    }

    fn key(&mut self) -> Option<(u64, String, PrivateKeyDer<'static>)> {
        let section = self.section;
        if section.key.is_none() && section.key_file.is_none() {
            self.add(None, "key_file", "missing one of key or key_file");
            return None;
        }
        let (pem, name, line) = self.pem(section.key_file.as_ref(), section.key.as_ref(), "key")?;
        match PrivateKeyDer::from_pem_slice(&pem) {
            Ok(key) => Some((line, name, key)),
            // The error does not contain the key.
            Err(error) => {
                self.problems.add(line, name, format!("has no private key in PEM form without a passphrase: {error}"));
                None
            }
        }
    }

    /// Returns PEM text, with the key and the line that named it: the content of a file, or the inline text without a file.
    fn pem(&mut self, file: Option<&Text>, inline: Option<&Text>, key: &str) -> Option<(Vec<u8>, String, u64)> {
        let Some(file) = file else {
            let inline = inline?;
            return Some((inline.value.clone().into_bytes(), format!("tls_server_config.{key}"), inline.line));
        };
        let (path, name) = (self.directory.join(&file.value), format!("{key}_file"));
        match self.files.read(&path) {
            Ok(bytes) => Some((bytes, format!("tls_server_config.{name}"), file.line)),
            Err(error) => {
                self.add(Some(file), &name, unreadable(&path, &error));
                None
            }
        }
    }

    fn client_rules(&self, auth: ClientAuth, authorities: &[CertificateDer<'static>]) -> [u8; 32] {
        let mut rules = format!("{auth:?} {:?}", self.section.client_allowed_sans).into_bytes();
        for certificate in authorities {
            rules.extend_from_slice(&sha256(certificate));
        }
        sha256(&rules)
    }
}

fn mismatch(error: &Error) -> String {
    match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => "is not the key of the certificate".to_owned(),
        error => {
            format!("cannot be used with the certificate (RSA of 2048 bits, P-256, P-384 and Ed25519 can): {error}")
        }
    }
}
