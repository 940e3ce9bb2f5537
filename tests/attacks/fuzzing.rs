//! The checks of the fuzz targets, run over their seeds and over generated inputs. The targets themselves, which run without
//! an end, are in tests/fuzz. The rules of other programs that the checks use are compared with the programs in
//! tests/attacks/one_reading.rs.
//!
//! `SIDEGATE_FUZZ_SEED` repeats the same generated inputs.

#[path = "../fuzz/checks/mod.rs"]
pub mod checks;

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Number of generated inputs for each target.
const CASES: u32 = 20_000;

/// Returns a runner that generates the same inputs for the same seed, and prints the seed.
pub fn runner(cases: u32) -> TestRunner {
    let given = std::env::var("SIDEGATE_FUZZ_SEED").ok();
    let seed = given.map_or_else(
        || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
        |seed| seed.parse().expect("a whole number"),
    );
    eprintln!("SIDEGATE_FUZZ_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target);
    let seeds: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!seeds.is_empty(), "{target} has no seeds");
    seeds
}

/// Runs the check over every seed and over generated inputs.
fn assert_holds<T: std::fmt::Debug>(
    target: &str,
    made_up: impl Strategy<Value = T>,
    check: impl Fn(&[u8]),
    bytes: impl Fn(&T) -> &[u8],
) {
    seeds(target).iter().for_each(|seed| check(seed));
    let run = runner(CASES).run(&made_up, |input| {
        check(bytes(&input));
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

/// Generates paths and queries. Most of them hold a piece that two parsers may read differently.
pub fn target() -> impl Strategy<Value = String> {
    let plain = select(vec![
        "/",
        "/",
        "/",
        "events",
        "a",
        "B9",
        "-._~",
        "!$&'()*+,=:@",
        "x=1",
        "?",
        "%20",
        "%C3%A9",
        "%E6%97%A5",
        "%F0%9F%A6%80",
        "%41",
        "%2C",
        "%25",
        "%7E",
        "..a",
        "a..",
        "...",
        "%3F",
        "%23",
        "*",
        "&",
        "http:",
    ]);
    let odd = select(vec![
        "..",
        "/../",
        "/./",
        ".",
        "%2e",
        "%2E%2e",
        "//",
        "%2F",
        "%5C",
        "\\",
        ";",
        "%3B",
        ";/..",
        "..;",
        "%252e",
        "%25%32e",
        "%25%32%65",
        "%00",
        "%0d",
        "%0A",
        "%7f",
        "%C2%85",
        "%ff",
        "%c0%ae",
        "%e0%80%af",
        "%zz",
        "%",
        "#",
        "é",
        "|",
        "\"",
        "^",
        "[",
        "]",
        "{",
        " ",
        "\t",
        "%u0041",
        "@host",
        "\\\\host",
        "/;x/",
        "%2f..%2f",
    ]);
    let piece = prop_oneof![
        8 => plain.prop_map(str::to_owned),
        1 => odd.prop_map(str::to_owned),
        1 => any::<u8>().prop_map(|byte| format!("%{byte:02X}")),
        1 => proptest::char::range(' ', '~').prop_map(String::from),
    ];
    (prop::collection::vec(piece, 0..10), prop::bool::weighted(0.9))
        .prop_map(|(pieces, slash)| format!("{}{}", if slash { "/" } else { "" }, pieces.concat()))
}

#[test]
fn an_accepted_target_is_read_alike_and_a_permitted_form_never_climbs() {
    let check = |bytes: &[u8]| checks::target::check(&String::from_utf8_lossy(bytes));
    assert_holds("target", target(), check, String::as_bytes);
}

#[test]
fn forged_headers_never_pass() {
    let name = select(vec![
        "accept",
        "X-Forwarded-Client-Cert",
        "client_cert",
        "Client.Cert-Chain",
        "x-client-",
        "x_client_id",
        "X.Remote.User",
        "remote_user",
        "x-ssl-",
        "SSL_CLIENT_S_DN",
        "Forwarded",
        "x-forwarded-for",
        "X_Forwarded_Host",
        "x-real-ip",
        "x-envoy-a",
        "x-http-method-override",
        "X_HTTP_METHOD",
        "x-rewrite-url",
        "x-original-uri",
        "x-request-id",
        "proxy",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "http2-settings",
        "transfer-encoding",
        "transfer_encoding",
        "content-length",
        "content.length",
        "host",
        "HOST",
        "cookie",
        "set-cookie",
        "authorization",
        "expect",
        "trailer",
        "traceparent",
        "tracestate",
        "via",
        "who-is-it",
        "Who_Is.It",
        "xclient-a",
        "x-clients",
        "content-type",
        "c",
        "x",
        "-",
        "x-forwarded",
        "range",
    ]);
    let value = select(vec![
        "",
        "a",
        "close",
        "trailers",
        "trailers, deflate",
        "keep-alive, x-client-id, accept",
        "client-cert",
        "x-forwarded-for,, host",
        "chunked",
        "0",
        "17",
        "a=1; b=2",
        "websocket",
        "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01",
        "caf\u{e9}",
        "\"quoted, text\"",
    ]);
    let any_name = "[!#-'*+.^-z|~A-Z0-9-]{1,12}";
    let name = prop_oneof![6 => name.prop_map(str::to_owned), 1 => any_name.prop_map(|name| name)];
    let field = (name, value).prop_map(|(name, value)| format!("{name}:{value}\n"));
    let fields = prop::collection::vec(field, 0..12).prop_map(|fields| fields.concat());
    assert_holds("stripping", fields, checks::stripping::check, String::as_bytes);
}

#[test]
fn a_text_of_a_certificate_stays_one_value() {
    let harm = select(vec![
        "\r\n", ",", ";", "\"", "\\", "%", "=", " ", "%2C", "\0", "\u{85}", "é", "URI=", ":", "\u{1}",
        "\u{1}",
    ]);
    let part = prop_oneof![3 => harm.prop_map(str::to_owned), 1 => any::<String>()];
    let text = prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat());
    let check = |bytes: &[u8]| checks::identity_headers::check(&String::from_utf8_lossy(bytes));
    assert_holds("identity_headers", text, check, String::as_bytes);
}
