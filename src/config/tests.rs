//! Configurations are read as they are written, and every mistake is reported.

use super::*;
use crate::protocol::Protocol;

mod table;

fn built(text: &str, overrides: &[(&'static str, &str, &str)]) -> Result<Config, Vec<String>> {
    let source = Source::new("sidegate.yaml", text);
    let overrides: Vec<_> = overrides
        .iter()
        .map(|(key, name, text)| Override { key, source: Source::new(*name, *text) })
        .collect();
    Config::build(&source, Path::new("/etc/sidegate"), &overrides).map_err(|diagnostics| {
        diagnostics.iter().map(|diagnostic| diagnostic.human(crate::diagnostic::Colour::Never)).collect()
    })
}

const LEAST: &str = "
tls: { certificate: a.crt, key: /k, client_ca: ca/ }
backend: { url: http://127.0.0.1:8080 }
policies: policies
";

#[test]
fn the_least_configuration_has_safe_defaults() {
    let config = built(LEAST, &[]).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:8443");
    let KeyPair { certificate, key } = &config.certificates[0];
    assert_eq!((&*certificate.value, &*key.value), (Path::new("/etc/sidegate/a.crt"), Path::new("/k")));
    assert_eq!(config.admin.unwrap().to_string(), "127.0.0.1:9901");
    assert_eq!((config.limits.max_connections, config.max_in_flight), (1000, 512));
    assert_eq!(config.limits.lobby.max_per_source, 100);
    assert_eq!(config.client_timeouts.idle_timeout, Duration::from_secs(75));
    assert_eq!(config.drain_timeout, Duration::from_secs(25));
    assert_eq!(config.audit, Destination::Stdout);
    assert!(config.identity_headers.client_cert && !config.identity_headers.xfcc);
    assert!(config.workers >= 1);
}

#[test]
fn a_flag_or_variable_wins_over_the_file_and_is_named_where_it_is_wrong() {
    let config =
        built(LEAST, &[("limits.lobby.max_connections", "SIDEGATE_LIMITS_LOBBY_MAX_CONNECTIONS", "7")]);
    assert_eq!(config.unwrap().limits.lobby.max_connections, 7);
    let custom = ("identity_headers.custom", "--identity-headers-custom", "{X-Who: common_name}");
    assert_eq!(built(LEAST, &[custom]).unwrap().identity_headers.custom.len(), 1);
    let wrong = built(LEAST, &[("workers", "--workers", "many")]).unwrap_err();
    assert!(wrong[0].contains("--workers") && wrong[0].contains("`many`"), "{wrong:?}");
}

#[test]
fn every_mistake_is_reported_at_once() {
    let wrong = built(
        "listen: nowhere\ntls: { certificate: a, kee: b }\nbackend: { url: ftp://x, max_in_flight: 0 }\nlimits: { idle_timeout: 5, http: { max_target_bytes: 70000 } }\nlog: { level: loud }\nidentity_headers: { custom: { Host: common_name, X-A: comon_name } }\npaths: { allow: [encoded_slash, semicolons] }\ntrusted_proxies: [10.1.0.0/8]\n",
        &[],
    )
    .unwrap_err()
    .join("\n");
    for expected in [
        "`nowhere` is not an address",
        "unknown key `kee`",
        "`tls.key` is missing",
        "`tls.client_ca` is missing",
        "`policies` is missing",
        "starts with `http://`",
        "a whole number from 1",
        "such as `500ms`, `5s` or `2m`",
        "not `loud`",
        "`Host` has a meaning of its own",
        "`comon_name` is not an attribute of certificates",
        "did you mean `semicolon`?",
        "a whole number from 1 to 65534",
        "write `10.0.0.0/8` for the network",
    ] {
        assert!(wrong.contains(expected), "{expected}\n--\n{wrong}");
    }
}

#[test]
fn a_part_of_the_places_is_a_percentage_and_never_all() {
    let with = |percent: &str| {
        built(
            &LEAST.replace(
                "http://127.0.0.1:8080",
                &format!("http://127.0.0.1:8080, reserved_for_others: {percent}"),
            ),
            &[],
        )
    };
    assert_eq!(built(LEAST, &[]).unwrap().reserved_for_others, 10);
    for (percent, kept) in [("0", 0), ("1", 5), ("90", 460)] {
        assert_eq!(with(percent).unwrap().admission().kept_for_others(), kept, "{percent}");
    }
    for percent in ["91", "100", "-1", "10%", "0.5", "some"] {
        let wrong = with(percent).unwrap_err().join("\n");
        assert!(wrong.contains("a whole number from 0 to 90 is expected"), "{percent}: {wrong}");
    }
}

#[test]
fn backend_urls() {
    let url = |url: &str| built(&LEAST.replace("http://127.0.0.1:8080", url), &[]);
    for (written, location, authority, protocol) in [
        ("http://events.internal", "events.internal:80", "events.internal", Protocol::Http1),
        ("'http://[::1]:8080/'", "[::1]:8080", "[::1]:8080", Protocol::Http1),
        ("h2c://10.0.0.1:50051", "10.0.0.1:50051", "10.0.0.1:50051", Protocol::Http2),
        ("'unix:/run/app.sock'", "/run/app.sock", "localhost", Protocol::Http1),
        ("'unix:///run/app.sock'", "/run/app.sock", "localhost", Protocol::Http1),
        ("'unix:app.sock'", "/etc/sidegate/app.sock", "localhost", Protocol::Http1),
        ("'unix+h2c:/run/app.sock'", "/run/app.sock", "localhost", Protocol::Http2),
        ("'https://events:443', tls: { ca: ca.pem }", "events:443", "events", Protocol::Http1),
        ("'h2://events', tls: { ca: c, certificate: a, key: b }", "events:443", "events", Protocol::Http2),
    ] {
        let settings = url(written).unwrap_or_else(|wrong| panic!("{written}: {wrong:?}")).backend;
        assert_eq!(
            (settings.location.to_string().as_str(), settings.authority.as_str(), settings.protocol),
            (location, authority, protocol)
        );
    }
    for (bad, expected) in [
        ("127.0.0.1:8080", "starts with `http://`"),
        ("ftp://h", "starts with `http://`"),
        ("http://", "is not a URL"),
        ("http://u@h", "a user beside it"),
        ("http://h/api", "has no path"),
        ("http://h:0", "from 1 to 65535"),
        ("http://h:99999", "from 1 to 65535"),
        ("'unix:'", "the path of the socket is missing"),
        ("https://h", "`backend.tls.ca` is missing"),
        ("'https://h', tls: { ca: a, key: b }", "`backend.tls.certificate` is missing"),
        ("'https://h', tls: { ca: a, certificate: b }", "`backend.tls.key` is missing"),
        ("'https://h', tls: { ca: a, server_name: 'a b' }", "is not a name of a server"),
        ("'http://h', tls: { ca: a }", "has no effect"),
        ("'http://h', health: { interval: 1s }", "`backend.health.interval` has no effect"),
        ("'http://h', health: { path: healthz }", "`healthz` is not a path to ask for"),
        ("'http://h', breaker: { failures: -1 }", "a whole number from 0"),
        ("'http://h', breaker: { pause: 0s }", "a length of time longer than nothing"),
    ] {
        let wrong = url(bad).map(|_| ()).unwrap_err().join("\n");
        assert!(wrong.contains(expected), "{bad}: {wrong}");
    }
}
