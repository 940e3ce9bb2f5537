//! Any bytes as a presented chain: the judgement ends with a reason, and without the authority's key never with an identity.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rustls_pki_types::CertificateDer;
use sidegate::identity::{Trust, TrustSources, EkuPolicy, judge};
use std::sync::LazyLock;

const CA: &[u8] = include_bytes!("../../certificates/certificate_tool/ca.pem");

static TRUST: LazyLock<Trust> = LazyLock::new(|| {
    let sources = TrustSources::from_authorities("ca.pem", CA, EkuPolicy::ClientAuthIfPresent);
    Trust::build(&sources, now()).expect("the examples' CA is one").0
});

/// 2026-11-24, when the examples are valid.
fn now() -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_795_478_400).expect("an instant")
}

// Certificates are cut at lengths that the input itself gives; a seed is `client.pem` as DER in that form.
fuzz_target!(|input: &[u8]| {
    let mut chain = Vec::new();
    let mut rest = input;
    while let [high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
        let (der, after) = after.split_at(length);
        chain.push(CertificateDer::from(der));
        rest = after;
    }
    if let Err(because) = judge(&chain, &TRUST, now()) {
        assert!(!format!("{because:?}").is_empty());
    }
});
