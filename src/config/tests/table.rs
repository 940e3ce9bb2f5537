//! Every row of the table of keys is read, its default counts, and its effect is what the table says.

use super::{LEAST, built};
use crate::config::{Config, Effect, KEYS, Key, Presence};

/// A value of a key that is not the default.
fn sample(key: &Key) -> &'static str {
    match key.path {
        "listen" | "admin.listen" => "127.0.0.1:7",
        "mode" => "audit",
        "trusted_proxies" => "[10.0.0.0/8]",
        "tls.certificates" => "[{ certificate: b.crt, key: b.key }]",
        "tls.crl_missing" => "allow",
        "tls.trust_domains" => "{ shop-ca.pem: shop.example }",
        "backend.url" => "http://127.0.0.1:8081",
        "backend.tls.server_name" => "events.example",
        "backend.health.path" => "/other",
        "paths.allow" => "[semicolon]",
        "identity_headers.client_cert" => "false",
        "identity_headers.custom" => "{ X-Client-Name: common_name }",
        "identity_headers.strip" => "[X-Acme-*]",
        "log.level" => "debug",
        "log.format" => "text",
        "tracing.otlp" => "http://127.0.0.1:4319",
        _ => match key.value {
            "PATH" | "FILE" | "WHERE" => "another",
            "DURATION" => "7s",
            "N" => "77",
            "BYTES" => "9999",
            "PERCENT" => "33",
            "BOOL" => "true",
            "SHARE" => "0.5",
            other => panic!("no sample of {other} for `{}`", key.path),
        },
    }
}

/// The other keys that a key needs, so that it has an effect.
fn base(key: &Key) -> Vec<(&'static str, &'static str)> {
    match key.path {
        path if path.starts_with("backend.tls.") => vec![
            ("backend.url", "https://events"),
            ("backend.tls.ca", "ca.pem"),
            ("backend.tls.certificate", "a.crt"),
            ("backend.tls.key", "a.key"),
        ],
        path if path.starts_with("backend.health.") => vec![("backend.health.path", "/healthz")],
        path if path.starts_with("tracing.") => {
            vec![("tracing.otlp", "http://127.0.0.1:4318")]
        }
        _ => Vec::new(),
    }
}

fn config(values: &[(&'static str, &str)]) -> Result<Config, Vec<String>> {
    let overrides: Vec<_> = values.iter().map(|(key, value)| (*key, "--flag", *value)).collect();
    built(LEAST, &overrides)
}

/// The configuration as text, without the places of its values.
fn shown(config: &Config) -> String {
    let text = format!("{config:?}");
    let mut parts = text.split("place: ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |shown, part| shown + after_place(part))
}

fn after_place(part: &str) -> &str {
    if let Some(rest) = part.strip_prefix("None") {
        return rest;
    }
    let (_, rest) = part.split_once(" } }").expect("a place ends with its span");
    rest.strip_prefix(')').unwrap_or(rest)
}

#[test]
fn every_key_changes_the_configuration() {
    for key in KEYS {
        let mut values = base(key);
        let without = config(&values).unwrap();
        values.push((key.path, sample(key)));
        let with = config(&values).unwrap_or_else(|wrong| panic!("{}: {}", key.path, wrong.join("\n")));
        assert_ne!(shown(&without), shown(&with), "`{}` changes nothing", key.path);
    }
}

#[test]
fn a_default_that_is_written_changes_nothing() {
    for key in KEYS {
        let Some(default) = key.default() else { continue };
        let mut values = base(key);
        let without = config(&values).unwrap();
        values.push((key.path, default));
        let with = config(&values).unwrap_or_else(|wrong| panic!("{}: {}", key.path, wrong.join("\n")));
        assert_eq!(
            shown(&without),
            shown(&with),
            "the default of `{}` is not the value that counts",
            key.path
        );
    }
}

#[test]
fn every_key_counts_from_the_moment_that_the_table_names() {
    for key in KEYS {
        let mut values = base(key);
        let running = config(&values).unwrap();
        values.push((key.path, sample(key)));
        let mut next = config(&values).unwrap();
        let kept = next.keep_until_restart(&running);
        assert_eq!(!kept.is_empty(), key.effect == Effect::AtStart, "`{}`: {kept:?}", key.path);
    }
}

#[test]
fn every_required_key_is_asked_for() {
    let problems = built("log: { level: info }\n", &[]).unwrap_err().join("\n");
    for key in KEYS.iter().filter(|key| key.presence == Presence::Required) {
        assert!(problems.contains(&format!("`{}` is missing", key.path)), "{}: {problems}", key.path);
    }
}
