//! Tests of whole files: which are accepted, which are refused with which words, and the effect of a change.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A directory with the certificate and the key of a server, another key, and the certificate of a client.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        host.renew();
        host.put("other.key", &KeyPair::generate().unwrap().serialize_pem());
        let client = CertificateParams::new(["client".to_owned()]).unwrap();
        host.put("client.pem", &client.self_signed(&KeyPair::generate().unwrap()).unwrap().pem());
        host
    }

    fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        self.put("server.crt", &certificate.pem());
        self.put("server.key", &key.serialize_pem());
    }

    fn put(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn load(&self, yaml: &str) -> Result<WebConfig, String> {
        WebConfig::load(&self.put("web.yml", yaml)).map_err(|problems| problems.to_string())
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
const HASH: &str = "$2y$04$WUBWOvqVKBQDbY9KIKLvEOZpIWM/PJGgXWyrMAlnpVVdgZfgWGDrO";

fn with_tls(more: &str) -> String {
    format!("{TLS}{more}")
}

#[test]
fn what_the_toolkit_accepts_is_accepted() {
    let host = Host::new();
    let table = [
        ("", false),
        ("tls_server_config:\nhttp_server_config: ~\nbasic_auth_users: {}\nrate_limit:\n", false),
        ("tls_server_config: {}\n", false),
        ("tls_server_config:\n  min_version: TLS13\n  prefer_server_cipher_suites: no\n", false),
        ("http_server_config:\n  http2: off\n  headers:\n    X-XSS-Protection: 1\n    X-Frame-Options: deny\n", false),
        ("rate_limit:\n  interval: 0\n  burst: 0\n", false),
        ("rate_limit: {interval: 1s, burst: 5}\n", false),
        (&format!("basic_auth_users:\n  1234: {HASH}\n  dave: {HASH}\n"), false),
        (TLS, true),
        (&with_tls("  client_auth_type: NoClientCert\n"), true),
        (&with_tls("  client_auth_type: RequireClientCert\n"), true),
        (&with_tls("  client_auth_type: RequireAndVerifyClientCert\n"), true),
        (
            &with_tls(
                "  client_auth_type: RequestClientCert\n  client_ca_file: client.pem\n  client_allowed_sans: [a]\n",
            ),
            true,
        ),
        (&with_tls("  curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]\n"), true),
        (&with_tls("  min_version: TLS10\n  max_version: TLS12\n"), true),
        (&with_tls("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n  min_version: TLS13\n"), true),
        (
            &with_tls(
                "  cipher_suites:\n  - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\n  - TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA\n",
            ),
            true,
        ),
        (
            &with_tls("  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\nhttp_server_config: {http2: false}\n"),
            true,
        ),
    ];
    for (yaml, serves_tls) in table {
        let web = host.load(yaml).unwrap_or_else(|error| panic!("{yaml}\n{error}"));
        assert_eq!(web.serves_tls(), serves_tls, "{yaml}");
    }
}

/// Refused files: a section, its lines, the line of the error in the section, and the words of the error.
const FAULTY: &[(&str, &str, u64, &str)] = &[
    ("tls_server_config", "cert_filse: server.crt", 1, "tls_server_config.cert_filse: yaml: unknown key"),
    ("tls_server_config", "cert_file: ''\nkey_file: server.key", 0, "missing one of cert or cert_file"),
    ("tls_server_config", "cert: ''\nkey_file: server.key", 0, "missing one of cert or cert_file"),
    ("tls_server_config", "cert_file: server.crt\nkey_file: ''", 0, "missing one of key or key_file"),
    ("tls_server_config", "cert_file: server.crt\nkey: ''", 0, "missing one of key or key_file"),
    ("tls_server_config", "client_auth_type: x", 1, "invalid ClientAuth: x"),
    (
        "tls_server_config",
        "cert_file: somefile\nkey_file: server.key",
        1,
        "cert_file: .*somefile cannot be read: no such file",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: somefile",
        2,
        "key_file: .*somefile cannot be read: no such file",
    ),
    ("tls_server_config", "cert_file: server.crt\nkey_file: other.key", 2, "is not the key of the certificate"),
    ("tls_server_config", "cert_file: server.key\nkey_file: server.key", 1, "has no certificate"),
    ("tls_server_config", "cert_file: server.crt\nkey_file: server.crt", 2, "has no private key"),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\nclient_ca_file: client.pem",
        3,
        "without a Client Auth Policy",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\nclient_ca_file: somefile",
        3,
        "somefile cannot be read: no such file",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\ncipher_suites: [TLS_X]",
        3,
        "unknown cipher: TLS_X",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\ncipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]",
        3,
        "TLSConfig.CipherSuites is missing an HTTP/2-required",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\ncurve_preferences: [CurveP257]",
        3,
        "unknown curve: CurveP257",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\ncurve_preferences: [CurveP521]",
        3,
        "CurveP521 alone",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\nmin_version: TLS111",
        3,
        "unknown TLS version: TLS111",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\nmax_version: TLS11",
        3,
        "accepted: TLS12, TLS13",
    ),
    (
        "tls_server_config",
        "cert_file: server.crt\nkey_file: server.key\nmin_version: TLS13\nmax_version: TLS12",
        3,
        "above max_version",
    ),
    ("http_server_config", "http2: maybe", 1, "http_server_config.http2: yaml: \"maybe\" is not true or false"),
    ("http_server_config", "headers: {Content-Type: foo}", 1, "HTTP header \"Content-Type\" can not be configured"),
    (
        "http_server_config",
        "headers: {x-frame-options: deny}",
        1,
        "HTTP header \"x-frame-options\" can not be configured",
    ),
    ("http_server_config", "headers: {X-Frame-Options: foo}", 1, "invalid value for X-Frame-Options"),
    ("http_server_config", "headers: {X-Content-Type-Options: sniff}", 1, "invalid value for X-Content-Type-Options"),
    ("http_server_config", "headers: {Content-Security-Policy: \"a\\nb\"}", 1, "characters that no header can have"),
    ("basic_auth_users", "john: doe", 1, "basic_auth_users.john: hashedSecret too short to be a bcrypted password"),
    ("rate_limit", "interval: often", 1, "rate_limit.interval: yaml: \"often\" is not a duration"),
    ("rate_limit", "burst: [1]", 1, "rate_limit.burst: yaml: one text is expected"),
];

fn says(error: &str, line: u64, words: &str) -> bool {
    let (start, end) = words.split_once(".*").unwrap_or(("", words));
    let is_there =
        |piece: &str| piece.starts_with(&format!("line {line}, ")) && piece.contains(start) && piece.contains(end);
    error.split("; line ").any(|piece| is_there(&format!("line {}", piece.trim_start_matches("line "))))
}

fn indented(section: &str, lines: &str) -> String {
    lines.lines().fold(format!("{section}:\n"), |text, line| format!("{text}  {line}\n"))
}

#[test]
fn what_the_toolkit_refuses_is_refused_with_line_and_key() {
    let host = Host::new();
    for (section, lines, line, words) in FAULTY {
        let error = host.load(&indented(section, lines)).expect_err(lines);
        // A section has the line of its first key.
        let line = if *line == 0 { 2 } else { line + 1 };
        assert!(says(&error, line, words), "{lines}\n{error}\nis to say in line {line}: {words}");
    }
    for (yaml, words) in
        [("hWkNKCp3\nTuEjdw\n", "yaml"), ("a: 1\n", "yaml: unknown key"), ("- a\n", "yaml"), ("a: [", "yaml")]
    {
        let error = host.load(yaml).expect_err(yaml);
        assert!(error.contains(words), "{yaml}: {error}");
    }
    let error = WebConfig::load(Path::new("/no/such/somefile")).expect_err("there is none").to_string();
    assert!(error.contains("no such file"), "{error}");
}

#[test]
fn two_errors_in_one_file_are_both_told_in_every_order() {
    let host = Host::new();
    for (first, one, one_line, one_words) in FAULTY {
        for (second, other, other_line, other_words) in FAULTY.iter().filter(|(section, ..)| section != first) {
            let error = host.load(&format!("{}{}", indented(first, one), indented(second, other))).expect_err(one);
            let above = u64::try_from(one.lines().count()).unwrap() + 1;
            let at = |line: u64| if line == 0 { 2 } else { line + 1 };
            assert!(says(&error, at(*one_line), one_words), "{one}, {other}: {error}");
            assert!(says(&error, above + at(*other_line), other_words), "{one}, {other}: {error}");
        }
    }
}

fn certificate(web: &WebConfig) -> Vec<u8> {
    web.current().tls.as_ref().unwrap().certificate.to_vec()
}

#[test]
fn a_renewal_counts_at_once_and_half_of_one_not_at_all() {
    let host = Host::new();
    let web = host.load(TLS).unwrap();
    let good = Arc::new(Mutex::new(Vec::new()));
    let reported = Arc::clone(&good);
    web.begin(move |is_good| reported.lock().unwrap().push(is_good));
    let first = certificate(&web);
    assert_eq!(certificate(&web), first);
    let (old_key, old_certificate) =
        (fs::read(host.0.path().join("server.key")), fs::read(host.0.path().join("server.crt")));
    host.renew();
    let second = certificate(&web);
    assert!(second != first);
    // The certificate is new, and the key is still the old one.
    let new_key = fs::read_to_string(host.0.path().join("server.key")).unwrap();
    host.put("server.key", &String::from_utf8(old_key.unwrap()).unwrap());
    assert_eq!((certificate(&web), certificate(&web)), (second.clone(), second.clone()));
    host.put("server.crt", &String::from_utf8(old_certificate.unwrap()).unwrap());
    assert_eq!(certificate(&web), first);
    fs::remove_file(host.0.path().join("server.key")).unwrap();
    assert_eq!(certificate(&web), first);
    host.put("server.key", &new_key);
    assert_eq!(certificate(&web), first);
    assert_eq!(*good.lock().unwrap(), [true, true, false, true, false, false]);
}

#[test]
fn a_bad_change_of_the_file_leaves_what_was_good() {
    let host = Host::new();
    let web = host.load(&with_tls(&format!("basic_auth_users:\n  dave: {HASH}\n"))).unwrap();
    for bad in ["x", "", "basic_auth_users: {}\n", &with_tls("  min_version: x\n")] {
        host.put("web.yml", bad);
        assert!(!web.current().users.is_empty() && web.current().tls.is_some(), "{bad}");
    }
    host.put("web.yml", &with_tls("http_server_config:\n  headers:\n    X-Frame-Options: deny\n"));
    assert!(web.current().users.is_empty());
    assert_eq!(web.current().headers.len(), 1);
}

#[test]
fn other_rules_for_clients_are_told_from_a_renewal() {
    let host = Host::new();
    let yaml = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client.pem\n";
    let web = host.load(&with_tls(yaml)).unwrap();
    let rules = |web: &WebConfig| web.current().tls.as_ref().unwrap().client_rules;
    let before = rules(&web);
    host.renew();
    assert_eq!(rules(&web), before);
    host.put("web.yml", &with_tls(&format!("{yaml}  client_allowed_sans: [a]\n")));
    assert!(rules(&web) != before);
}

#[test]
fn where_clients_show_certificates_no_session_is_resumed() {
    let host = Host::new();
    let server = |yaml: &str| {
        let web = host.load(yaml).unwrap();
        let loaded = web.current();
        let server = &loaded.tls.as_ref().unwrap().server;
        (server.send_tls13_tickets, server.session_storage.can_cache(), server.alpn_protocols.len())
    };
    assert_eq!(server(TLS), (2, true, 2));
    assert_eq!(server(&with_tls("  client_auth_type: RequestClientCert\n")), (0, false, 2));
    assert_eq!(server(&with_tls("http_server_config: {http2: no}\n")), (2, true, 1));
}
