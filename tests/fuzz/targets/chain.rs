//! Any bytes as a presented chain: the verdict is a refusal with a reason, or needs the key of the authority.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;
use sidegate::identity::{Trust, TrustSources, EkuPolicy, judge};
use std::sync::LazyLock;

const CA: &[u8] = include_bytes!("../../certificates/certificate_tool/ca.pem");

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let sources = TrustSources::from_authorities("ca.pem", CA, EkuPolicy::ClientAuthIfPresent);
    Trust::build(&sources, now()).expect("the CA of the examples is valid").0
});

/// 2026-11-24, when the example certificates are valid.
fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_795_478_400).expect("an instant")
}

// The input is a sequence of certificates, each after its length in two bytes; a seed is `client.pem` in that form.
fuzz_target!(|input: &[u8]| {
    let mut chain = Vec::new();
    let mut rest = input;
    while let [high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (der, after) = after.split_at(length);
        chain.push(CertificateDer::from(der));
        rest = after;
    }
    if let Err(reason) = judge(&chain, &TRUST, now()) {
        assert!(!format!("{reason:?}").is_empty());
    }
});
