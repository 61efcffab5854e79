//! What a server does with its web configuration, seen by clients, beyond what `toolkit` lists.

use std::process::{Command, Stdio};
use std::time::Duration;

use exporter_tests::exporter::free_address;
use exporter_tests::wait::eventually;

use super::{Server, TLS, command, make_keys};

pub(super) const USERS: &str = "\
basic_auth_users:
  alice: $2y$12$1DpfPeqF9HzHJt.EWswy1exHluGfbhnn3yXhR7Xes6m3WJqFg0Wby
  bob: $2y$18$4VeFDzXIoPHKnKTU3O3GH.N.vZu06CVqczYZ8WvfzrddFU6tGqjR.
  carol: $2y$10$qRTBuFoULoYNA7AQ/F3ck.trZBPyjV64.oA4ZsSBCIWvXuvQlQTuu
  dave: $2y$10$2UXri9cIDdgeKjBo4Rlpx.U3ZLDV8X1IxKmsfOvhcM5oXQt/mLmXq
";

pub(super) const CLIENT: &[&str] = &["--cert", "client.crt", "--key", "client.key"];
pub(super) const CLIENT2: &[&str] = &["--cert", "client2.crt", "--key", "client2.key"];

fn tls(more: &str) -> String {
    format!("{TLS}{more}")
}

#[test]
fn a_faulty_file_ends_the_start_with_line_and_key_beside_errors_of_flags() {
    let directory = tempfile::tempdir().unwrap();
    make_keys(directory.path()).unwrap();
    let refused = [
        ("tls_server_config:\n  cert_filse: server.crt\n".to_owned(), "line 2, tls_server_config.cert_filse: yaml"),
        (
            tls("  client_ca_file: client.crt\n"),
            "line 4, tls_server_config.client_ca_file: client CA's have been configured without",
        ),
        (tls("basic_auth_users:\n  john: doe\n"), "line 5, basic_auth_users.john: hashedSecret too short"),
    ];
    for (yaml, words) in refused {
        let path = directory.path().join("web.yml");
        std::fs::write(&path, &yaml).unwrap();
        let output = command(&path, free_address().unwrap()).unwrap().arg("--log.level=loud").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{yaml}: {said}");
        assert!(said.contains(words) && said.contains("web.config.file") && said.contains("loud"), "{yaml}: {said}");
    }
}

#[test]
fn tls_is_served_in_both_protocols_and_health_needs_nothing() {
    let server = Server::start(&tls(USERS)).unwrap();
    for (arguments, protocol) in [(&["--http1.1"][..], "HTTP/1.1 "), (&["--http2"], "HTTP/2 ")] {
        for (path, user, status) in [
            ("/healthz", None, 200),
            ("/readyz", None, 200),
            ("/metrics", None, 401),
            ("/", None, 401),
            ("/metrics", Some("dave:dave123"), 200),
            ("/metrics", Some("carol:carol123"), 200),
            ("/metrics", Some("dave:bad"), 401),
            ("/metrics", Some("nonexistent:nonexistent"), 401),
        ] {
            let user: Vec<&str> = user.map(|user| vec!["-u", user]).unwrap_or_default();
            let (seen, said) = server.curl("https", path, &[arguments, &user].concat()).unwrap();
            assert_eq!(seen, status, "{path} {user:?}: {said}");
            assert!(said.contains(protocol), "{said}");
            assert_eq!(status == 401, said.to_lowercase().contains("www-authenticate: basic"), "{said}");
        }
    }
    let (status, said) = server.curl("http", "/metrics", &[]).unwrap();
    assert!(status == 400 && said.contains("Client sent an HTTP request to an HTTPS server"), "{said}");
    let (status, said) = server.curl("https", "/healthz", &["--tls-max", "1.1"]).unwrap();
    assert!(status == 0, "{said}");
    assert!(server.healthcheck().unwrap().status.success());
}

#[test]
fn client_certificates_of_every_type() {
    let verify = "  client_ca_file: client.crt\n  client_auth_type: ";
    let table: &[(&str, [bool; 3])] = &[
        ("  client_auth_type: NoClientCert\n", [true, true, true]),
        ("  client_auth_type: RequestClientCert\n", [true, true, true]),
        ("  client_auth_type: RequireAnyClientCert\n", [false, true, true]),
        ("  client_auth_type: RequireClientCert\n", [false, true, true]),
        (&format!("{verify}VerifyClientCertIfGiven\n"), [true, true, false]),
        (&format!("{verify}RequireAndVerifyClientCert\n"), [false, true, false]),
        ("  client_auth_type: RequireAndVerifyClientCert\n", [false, false, false]),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client2.crt\n  client_allowed_sans: [one, test3]\n",
            [false, false, true],
        ),
        (
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: client2.crt\n  client_allowed_sans: [bad]\n",
            [false, false, false],
        ),
        ("  client_auth_type: RequestClientCert\n  client_allowed_sans: [test3]\n", [false, false, true]),
    ];
    for (yaml, expected) in table {
        let server = Server::start(&tls(yaml)).unwrap();
        for version in ["1.2", "1.3"] {
            let mut seen = Vec::new();
            let mut said = String::new();
            for certificate in [&[][..], CLIENT, CLIENT2] {
                let (status, text) =
                    server.curl("https", "/metrics", &[&["--tls-max", version], certificate].concat()).unwrap();
                seen.push(status == 200);
                said.push_str(&text.chars().rev().take(300).collect::<String>().chars().rev().collect::<String>());
            }
            assert_eq!(seen, expected, "{yaml} TLS {version}: {said}\n{}", server.log());
        }
        let health = server.healthcheck().unwrap();
        assert!(health.status.success(), "{yaml}: {}", String::from_utf8_lossy(&health.stderr));
    }
}

/// What openssl says of a handshake.
fn handshake(server: &Server, arguments: &[&str]) -> String {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &server.address.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn suites_curves_and_versions_are_those_of_the_file() {
    let suites = "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  max_version: TLS12\n";
    let server = Server::start(&tls(suites)).unwrap();
    let both = handshake(&server, &["-cipher", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"]);
    assert!(both.contains("Cipher is ECDHE-RSA-AES128-GCM-SHA256"), "{both}");
    let cbc = handshake(&server, &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-SHA"]);
    assert!(cbc.contains("handshake failure"), "{cbc}");
    assert!(!handshake(&server, &["-tls1_3"]).contains("Cipher is TLS_"));
    let server = Server::start(&tls("  min_version: TLS13\n  curve_preferences: [CurveP384, CurveP521]\n")).unwrap();
    assert!(handshake(&server, &["-groups", "P-384"]).contains("Cipher is TLS_AES_128_GCM_SHA256"));
    let other = handshake(&server, &["-groups", "X25519"]);
    assert!(other.contains("handshake failure"), "{other}");
    let no_http2 = "  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]\n  max_version: TLS12\nhttp_server_config: {http2: off}\n";
    let server = Server::start(&tls(no_http2)).unwrap();
    let (status, said) = server.curl("https", "/healthz", &["--http2"]).unwrap();
    assert!(status == 200 && said.contains("HTTP/1.1 200"), "{said}");
}

#[test]
fn headers_rate_limit_and_users_without_tls() {
    let yaml = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    X-XSS-Protection: 1\n    Strict-Transport-Security: max-age=31536000; includeSubDomains\n";
    let server = Server::start(&format!("{yaml}{USERS}")).unwrap();
    for (user, status) in [("dave:dave123", 200), ("dave:wrong", 401)] {
        let (seen, said) = server.curl("http", "/metrics", &["-u", user]).unwrap();
        let said = said.to_lowercase();
        assert!(
            seen == status && said.contains("x-frame-options: deny") && said.contains("x-xss-protection: 1"),
            "{said}"
        );
        assert!(said.contains("strict-transport-security: max-age=31536000; includesubdomains"), "{said}");
    }
    let server = Server::start("rate_limit: {interval: 1s, burst: 0}\n").unwrap();
    let (status, said) = server.curl("http", "/metrics", &[]).unwrap();
    assert!(status == 429 && said.contains("Too Many Requests"), "{said}");
    assert_eq!(server.curl("http", "/healthz", &[]).unwrap().0, 200);
}

#[test]
fn a_changed_file_counts_while_the_server_runs() {
    let server = Server::start(&tls("  client_auth_type: RequireAndVerifyClientCert\n")).unwrap();
    assert_eq!(server.curl("https", "/metrics", &[]).unwrap().0, 0);
    server.write("web.yml", &tls("  client_auth_type: VerifyClientCertIfGiven\n")).unwrap();
    assert_eq!(server.curl("https", "/metrics", &[]).unwrap().0, 200);
    server.write("web.yml", "nonsense").unwrap();
    let (status, said) = server.curl("https", "/metrics", &[]).unwrap();
    assert!(status == 200 && said.contains("docker_stats_exporter_web_config_last_reload_successful 0"), "{said}");
    assert_eq!(server.curl("https", "/metrics", &[]).unwrap().0, 200);
    assert_eq!(server.log().matches("cannot reload the web configuration").count(), 1, "{}", server.log());
    make_keys(server.directory.path()).unwrap();
    server.write("web.yml", TLS).unwrap();
    let (status, said) = server.curl("https", "/metrics", &[]).unwrap();
    assert!(status == 200 && said.contains("docker_stats_exporter_web_config_last_reload_successful 1"), "{said}");
}

#[test]
fn a_real_prometheus_scrapes_with_tls_and_a_password() {
    let server = Server::start(&tls(USERS)).unwrap();
    let configuration = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: exporter\n  scheme: https\n  \
         tls_config: {{ca_file: server.crt, server_name: localhost}}\n  basic_auth: {{username: dave, password: dave123}}\n  \
         static_configs: [{{targets: ['{}']}}]\n",
        server.address
    );
    server.write("prometheus.yml", &configuration).unwrap();
    let address = free_address().unwrap();
    let mut prometheus = Command::new("prometheus")
        .current_dir(server.directory.path())
        .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=error"])
        .arg(format!("--web.listen-address={address}"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let up = eventually(Duration::from_mins(1), "a scrape", || {
        let answer = exporter_tests::http::get(address, "/api/v1/query?query=up%3D%3D1", &[])?.text()?;
        anyhow::ensure!(answer.contains("\"job\":\"exporter\""), "{answer}");
        Ok(())
    });
    prometheus.kill().unwrap();
    prometheus.wait().unwrap();
    up.unwrap();
}
