//! What exporter-toolkit's own tests expect of each file of its `web/testdata`, by those names: refused at the start with these words, or
//! served, with these answers to curl. Where we differ on purpose, docs/TLS.md says so.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use exporter_tests::exporter::free_address;
use exporter_tests::wait::eventually;
use tempfile::TempDir;

use super::{Server, command, make_keys};

/// Scheme, curl's arguments, the status (0: no connection) and words of what is answered.
type Answer = (&'static str, &'static [&'static str], u16, &'static str);

enum Verdict {
    Refused(&'static str),
    Served(&'static [Answer]),
}

use Verdict::{Refused, Served};

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
const IF_GIVEN: &str = "  client_auth_type: VerifyClientCertIfGiven\n";
const VERIFY: &str = "  client_auth_type: RequireAndVerifyClientCert\n";
const ANY: &str = "  client_auth_type: RequireAnyClientCert\n";
const USERS: &str = super::verdicts::USERS;

const CLIENT: &[&str] = super::verdicts::CLIENT;
const CLIENT2: &[&str] = super::verdicts::CLIENT2;

const WELCOME: &[Answer] = &[("https", &[], 200, "")];

/// The file, sections and lines in it one after the other (`@NAME` is the content of that file, indented), and the verdict.
const FILES: &[(&str, &[&str], Verdict)] = &[
    ("web_config_empty.yml", &[], Served(&[("http", &[], 200, ""), ("https", &[], 0, "")])),
    ("web_config_junk.yml", &["hWkNKCp3fvIx3jKnsaBI\nTuEjdwNS8A2vYdFbiKqr\n"], Refused("yaml")),
    ("web_config_junk_key.yml", &["tls_server_config:\n  cert_filse: server.crt\n"], Refused("yaml: unknown key")),
    (
        "web_config_noAuth_certPath_empty.bad.yml",
        &["tls_server_config:\n  cert_file: ''\n  key_file: server.key\n"],
        Refused("missing one of cert or cert_file"),
    ),
    (
        "web_config_noAuth_cert_empty.bad.yml",
        &["tls_server_config:\n  cert: ''\n  key_file: server.key\n"],
        Refused("missing one of cert or cert_file"),
    ),
    (
        "web_config_noAuth_keyPath_empty.bad.yml",
        &["tls_server_config:\n  cert_file: server.crt\n  key_file: ''\n"],
        Refused("missing one of key or key_file"),
    ),
    (
        "web_config_noAuth_key_empty.bad.yml",
        &["tls_server_config:\n  cert_file: server.crt\n  key: ''\n"],
        Refused("missing one of key or key_file"),
    ),
    (
        "web_config_noAuth_certPath_keyPath_empty.bad.yml",
        &["tls_server_config:\n  cert_file: ''\n  key_file: ''\n  client_auth_type: x\n"],
        Refused("missing one of cert or cert_file"),
    ),
    (
        "web_config_noAuth_certPath_invalid.bad.yml",
        &["tls_server_config:\n  cert_file: somefile\n  key_file: server.key\n"],
        Refused("no such file"),
    ),
    (
        "web_config_noAuth_keyPath_invalid.bad.yml",
        &["tls_server_config:\n  cert_file: server.cert\n  key_file: somefile\n"],
        Refused("no such file"),
    ),
    (
        "web_config_noAuth_certPath_keyPath_invalid.bad.yml",
        &["tls_server_config:\n  cert_file: somefile\n  key_file: somefile\n"],
        Refused("no such file"),
    ),
    (
        "web_config_noAuth.bad.yml",
        &[TLS, "  client_ca_file: /dev/null\n"],
        Refused("client CA's have been configured without a Client Auth Policy"),
    ),
    ("web_config_auth_clientCAs_invalid.bad.yml", &[TLS, "  client_ca_file: somefile\n"], Refused("no such file")),
    (
        "web_config_auth_user_list_invalid.bad.yml",
        &[TLS, "basic_auth_users:\n  john: doe\n"],
        Refused("hashedSecret too short to be a bcrypted password"),
    ),
    (
        "web_config_noAuth_inventedCiphers.bad.yml",
        &[TLS, IF_GIVEN, "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048]\n"],
        Refused("unknown cipher"),
    ),
    (
        "web_config_noAuth_inventedCurves.bad.yml",
        &[TLS, IF_GIVEN, "  curve_preferences: [CurveP257]\n"],
        Refused("unknown curve"),
    ),
    (
        "web_config_noAuth_wrongTLSVersion.bad.yml",
        &[TLS, IF_GIVEN, "  min_version: TLS111\n"],
        Refused("unknown TLS version"),
    ),
    (
        "web_config_headers_content_type_options.bad.yml",
        &["http_server_config:\n  headers: {X-Content-Type-Options: sniff}\n"],
        Refused("invalid value for"),
    ),
    (
        "web_config_headers_frame_options.bad.yml",
        &["http_server_config:\n  headers: {X-Frame-Options: foo}\n"],
        Refused("invalid value for"),
    ),
    (
        "web_config_headers_extra_header.bad.yml",
        &["http_server_config:\n  headers: {Content-Type: foo}\n"],
        Refused("HTTP header \"Content-Type\" can not be configured"),
    ),
    (
        "web_config_noAuth_noHTTP2Cipher.bad.yml",
        &[TLS, IF_GIVEN, "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n  max_version: TLS12\n"],
        Refused("TLSConfig.CipherSuites is missing an HTTP/2-required"),
    ),
    (
        "web_config_noAuth.good.yml",
        &[TLS, IF_GIVEN],
        Served(&[
            ("https", &[], 200, ""),
            ("http", &[], 400, "Client sent an HTTP request to an HTTPS server"),
            ("https", &["--tls-max", "1.1"], 0, ""),
        ]),
    ),
    (
        "web_config_noAuth_tlsInline.good.yml",
        &["tls_server_config:\n  cert: |\n", "@server.crt", "  key: |\n", "@server.key", IF_GIVEN],
        Served(WELCOME),
    ),
    (
        "web_config_noAuth_allCiphers.good.yml",
        &[
            TLS,
            IF_GIVEN,
            "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256\n  - TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\n",
            "  - TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\n  - TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\n",
            "  - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\n  - TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256\n",
            "  - TLS_AES_128_GCM_SHA256\n  - TLS_AES_256_GCM_SHA384\n  - TLS_CHACHA20_POLY1305_SHA256\n",
            "  - TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA\n  - TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA\n",
            "  - TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA\n  - TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA\n",
        ],
        Served(WELCOME),
    ),
    (
        "web_config_noAuth_someCiphers.good.yml",
        &[
            TLS,
            IF_GIVEN,
            "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n",
            "  min_version: TLS12\n  max_version: TLS12\n",
        ],
        Served(&[
            ("https", &["-v", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256"], 200, "ECDHE-RSA-AES128-GCM-SHA256"),
            ("https", &["--ciphers", "ECDHE-RSA-AES256-SHA"], 0, ""),
            (
                "https",
                &["-v", "--ciphers", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"],
                200,
                "/ ECDHE-RSA-AES128-GCM-SHA256",
            ),
        ]),
    ),
    (
        "web_config_noAuth_someCiphers_noOrder.good.yml",
        &[
            TLS,
            IF_GIVEN,
            "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n",
            "  prefer_server_cipher_suites: false\n  min_version: TLS12\n  max_version: TLS12\n",
        ],
        Served(&[(
            "https",
            &["-v", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"],
            200,
            "/ ECDHE-RSA-AES128-GCM-SHA256",
        )]),
    ),
    (
        "web_config_noAuth_allCurves.good.yml",
        &[TLS, IF_GIVEN, "  curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]\n"],
        Served(WELCOME),
    ),
    // Differs: there is no such key exchange in rustls.
    (
        "web_config_noAuth_someCurves.good.yml",
        &[TLS, IF_GIVEN, "  min_version: TLS13\n  curve_preferences: [CurveP521]\n"],
        Refused("CurveP521 alone"),
    ),
    (
        "web_config_noAuth_noHTTP2.good.yml",
        &[
            TLS,
            IF_GIVEN,
            "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n  max_version: TLS12\nhttp_server_config: {http2: false}\n",
        ],
        Served(&[("https", &["--http2"], 200, "HTTP/1.1 200")]),
    ),
    (
        "web_config_headers.good.yml",
        &[
            "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n    X-XSS-Protection: 1\n",
            "    Strict-Transport-Security: max-age=31536000; includeSubDomains\n",
            "    Content-Security-Policy: \"default-src 'self' *.test.example.net\"\n",
        ],
        Served(&[
            ("http", &[], 200, "x-frame-options: deny"),
            ("http", &[], 200, "x-content-type-options: nosniff"),
            ("http", &[], 200, "x-xss-protection: 1"),
            ("http", &[], 200, "strict-transport-security: max-age=31536000; includesubdomains"),
            ("http", &[], 200, "content-security-policy: default-src 'self' *.test.example.net"),
        ]),
    ),
    (
        "tls_config_noAuth.requireanyclientcert.good.yml",
        &[TLS, ANY],
        Served(&[("https", &[], 0, ""), ("https", CLIENT, 200, "")]),
    ),
    (
        "tls_config_noAuth.requireanyclientcertkeyinline.good.yml",
        &["tls_server_config:\n  cert_file: server.crt\n  key: |\n", "@server.key", ANY],
        Served(&[("https", &[], 0, ""), ("https", CLIENT, 200, "")]),
    ),
    (
        "tls_config_noAuth.requireandverifyclientcert.good.yml",
        &[TLS, VERIFY, "  client_ca_file: client.crt\n"],
        Served(&[("https", &[], 0, ""), ("https", CLIENT, 200, "")]),
    ),
    (
        "web_config_auth_client_san.good.yaml",
        &[TLS, VERIFY, "  client_ca_file: client2.crt\n  client_allowed_sans: [one, test3, two]\n"],
        Served(&[("https", CLIENT2, 200, "")]),
    ),
    (
        "web_config_auth_client_san.bad.yaml",
        &[TLS, VERIFY, "  client_ca_file: client2.crt\n  client_allowed_sans: [bad]\n"],
        Served(&[("https", CLIENT2, 0, "")]),
    ),
    ("web_config_auth_clientCAs_missing.bad.yml", &[TLS, VERIFY], Served(&[("https", CLIENT, 0, "")])),
    // What happens when it is changed while the server runs: a_changed_file_counts_while_the_server_runs.
    ("web_config_noAuth.good.blocking.yml", &[TLS, VERIFY], Served(&[("https", &[], 0, "")])),
    (
        "web_config_rate_limiter_nonblocking.yaml",
        &["rate_limit:\n  interval: 0\n  burst: 0\n"],
        Served(&[("http", &[], 200, ""), ("http", &[], 200, ""), ("http", &[], 200, "")]),
    ),
    (
        "web_config_rate_limiter_one_second.yaml",
        &["rate_limit:\n  interval: \"1s\"\n  burst: 0\n"],
        Served(&[("http", &[], 429, "too many requests")]),
    ),
    (
        "web_config_users_noTLS.good.yml",
        &[USERS],
        Served(&[
            ("http", &[], 401, "www-authenticate: basic"),
            ("http", &["-u", "dave:dave123"], 200, ""),
            ("http", &["-u", "alice:alice123"], 200, ""),
            ("http", &["-u", "alice:alice1234"], 401, "unauthorized"),
            ("http", &["-u", "fakeuser:fakepassword"], 401, ""),
            ("http", &["-u", "fakeuser:fakepassword"], 401, ""),
            // CVE-2022-46146: a joined key of the cache took one for the other.
            (
                "http",
                &["-u", "alice$2y$12$1DpfPeqF9HzHJt.EWswy1exHluGfbhnn3yXhR7Xes6m3WJqFg0Wby:fakepassword"],
                401,
                "",
            ),
            (
                "http",
                &["-u", "alice:$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSifakepassword"],
                401,
                "",
            ),
        ]),
    ),
    (
        "web_config_users.good.yml",
        &[TLS, USERS],
        Served(&[
            ("https", &[], 401, "www-authenticate: basic"),
            ("https", &["-u", "dave:dave123"], 200, ""),
            ("https", &["-u", "carol:carol123"], 200, ""),
            ("https", &["-u", "dave:bad"], 401, ""),
            ("https", &["-u", "nonexistent:nonexistent"], 401, ""),
        ]),
    ),
];

/// The text of a file.
fn text(pieces: &[&str], keys: &Path) -> String {
    let text = |piece: &&str| match piece.strip_prefix('@') {
        Some(name) => {
            let pem = fs::read_to_string(keys.join(name)).unwrap();
            pem.lines().fold(String::new(), |text, line| format!("{text}    {line}\n"))
        }
        None => (*piece).to_owned(),
    };
    pieces.iter().map(text).collect()
}

/// A directory with the same keys.
fn copy(keys: &Path) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(keys).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), directory.path().join(entry.file_name())).unwrap();
    }
    directory
}

/// What the server answers. A comparison of passwords that took too long goes on, and is known the next time.
fn answer(server: &Server, scheme: &str, arguments: &[&str], expected: u16) -> Result<(u16, String)> {
    eventually(Duration::from_mins(1), "the password to be compared", || {
        let (seen, said) = server.curl(scheme, "/metrics", arguments)?;
        ensure!(seen != 429 || expected == 429, "{said}");
        Ok((seen, said))
    })
}

#[test]
fn every_file_of_the_toolkit_has_its_verdict() {
    let keys = tempfile::tempdir().unwrap();
    make_keys(keys.path()).unwrap();
    for (name, pieces, verdict) in FILES {
        let yaml = text(pieces, keys.path());
        let directory = copy(keys.path());
        match verdict {
            Refused(words) => {
                let path = directory.path().join("web.yml");
                fs::write(&path, yaml).unwrap();
                let output = command(&path, free_address().unwrap()).unwrap().output().unwrap();
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.code() == Some(2) && said.contains(words), "{name}: {}: {said}", output.status);
            }
            Served(answers) => {
                let server = Server::start_in(directory, &yaml).unwrap_or_else(|error| panic!("{name}: {error:#}"));
                for (scheme, arguments, status, words) in *answers {
                    let (seen, said) = answer(&server, scheme, arguments, *status).unwrap();
                    let is_there = said.to_lowercase().contains(&words.to_lowercase());
                    let said: String = said.chars().take(2000).collect();
                    assert!(seen == *status && is_there, "{name}, {arguments:?}: {seen}: {said}\n{}", server.log());
                }
            }
        }
    }
    let missing = command(Path::new("/no/such/somefile"), free_address().unwrap()).unwrap().output().unwrap();
    assert!(missing.status.code() == Some(2) && String::from_utf8_lossy(&missing.stderr).contains("no such file"));
}
